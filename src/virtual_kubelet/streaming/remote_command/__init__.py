"""Exec and attach on the wire: streams of one command, over SPDY or WebSocket channels."""
