"""The phases of a run, each the counterpart of the file of the same name in client/requests."""
