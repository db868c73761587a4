"""The node's HTTPS API: HTTP/1.1 over TLS, who is calling and what they may do, and the kubelet's routes."""
