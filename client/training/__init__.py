"""Training at a site: batches, losses, the training loop, what strategies add to it, the state they keep."""
