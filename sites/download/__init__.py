"""Downloads of public data sets, with their sums."""
