"""The Kubernetes API as a client sees it: configuration, credentials, requests, watches, caches, events."""
