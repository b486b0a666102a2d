"""Metrics from counts that can be added over hospitals."""
