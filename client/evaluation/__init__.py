"""Evaluation at a site: predictions, the results and counts that may leave, recalibration, attributions."""
