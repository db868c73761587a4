"""Typed Kubernetes objects (generated) and the pure rules about them. Nothing here does I/O.

``from virtual_kubelet.objects import core_v1`` and so on; each group of the API is a module of its name.
"""
