"""Runs: one, several in a series, each hospital left out in turn."""
