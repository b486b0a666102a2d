"""Recordings and tables without labels, for scoring."""
