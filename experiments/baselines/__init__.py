"""Baselines for the federated model: pooled and local training, classical models, anomaly detectors."""
