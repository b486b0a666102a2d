"""The report's pages: HTML, Markdown, CSV, model card."""
