"""Volumes on this machine: a pod's directories, what is written into them and mounted on them."""
