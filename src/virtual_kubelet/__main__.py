"""``python -m virtual_kubelet``: the same as the command ``virtual-kubelet``."""

from virtual_kubelet.cli import main

raise SystemExit(main())
