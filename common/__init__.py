"""What both ends of a federation must agree on. Imports none of the other packages."""
