"""WebSocket (RFC 6455) and what Kubernetes sends through it."""
