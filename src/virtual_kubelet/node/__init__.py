"""NodeController and PodController: the API server on one side, the provider on the other."""
