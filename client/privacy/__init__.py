"""Differential privacy at a hospital: checks, budget, ledger, accounting, noisy training and sums."""
