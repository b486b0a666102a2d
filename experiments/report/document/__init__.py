"""The report as a document: report.json, typed and published as a JSON Schema."""
