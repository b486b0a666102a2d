"""The report's texts: formatting, key facts, findings."""
