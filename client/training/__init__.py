"""Training on a hospital's patients."""
