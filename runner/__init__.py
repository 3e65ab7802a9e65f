"""The process that runs one Sequence."""
