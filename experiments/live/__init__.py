"""A local page that shows a run while it works, from its events alone."""
