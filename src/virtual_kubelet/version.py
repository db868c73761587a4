"""The version of this package, for modules that must not import the package itself."""

from typing import Final

__all__ = ["VERSION"]

VERSION: Final = "0.1.0"
