"""Baselines beside the federated model: pooled, each alone, classical, anomaly detectors."""
