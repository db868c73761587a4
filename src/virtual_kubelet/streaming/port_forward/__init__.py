"""Port-forward on the wire: many connections to a pod's ports in one session."""
