"""The pod engine: a kubelet's pod semantics on top of a ``ContainerRuntime``."""
