"""The hub: takes packages over HTTP and runs them as Instances."""
