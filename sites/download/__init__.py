"""Downloads of public data sets, verified by their checksums."""
