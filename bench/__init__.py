"""The benchmark: what the hub does in a second, each figure beside a baseline measured in the same run."""
