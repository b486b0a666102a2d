"""Descriptions of a data set that may be shown: small cells are suppressed."""
