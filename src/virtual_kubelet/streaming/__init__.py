"""The wire protocols of exec, attach and port-forward: bytes in, events out. No I/O, no clock, nothing of asyncio."""
