"""Measurements of privacy: audit, inversion, sweep."""
