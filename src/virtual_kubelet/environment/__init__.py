"""PodSpec to a concrete environment: pure."""
