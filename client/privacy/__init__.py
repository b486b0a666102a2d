"""Differential privacy at a site: checks, budget, ledger, accounting, DP-SGD, noisy sums and counts."""
