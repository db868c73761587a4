"""How a probe or a hook asks a container: a command in it, HTTP, a TCP connection, gRPC."""
