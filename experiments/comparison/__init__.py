"""Comparison of several runs, paired by patient."""
