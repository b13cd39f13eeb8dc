"""The documentation's pictures: a file each, drawn from photos whose terms allow it and from committed figures."""
