"""The phases of a run, each facing the file of the same name in client/requests."""
