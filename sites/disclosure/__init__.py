"""Descriptions of a data set that may be published: small counts are suppressed."""
