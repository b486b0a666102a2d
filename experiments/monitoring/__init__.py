"""Metrics of a running client or server for Prometheus: requests, rounds, bytes, epsilon; never a patient's value."""
