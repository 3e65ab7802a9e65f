"""Make a Sequence package: a deterministic tar.gz of a folder."""
