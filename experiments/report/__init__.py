"""The report of a run: report.json for machines, report.html for readers, sites.csv for spreadsheets."""
