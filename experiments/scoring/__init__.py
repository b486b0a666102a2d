"""`wardround score`: a run's model on new recordings or rows."""
