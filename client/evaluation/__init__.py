"""Evaluation on a hospital's patients."""
