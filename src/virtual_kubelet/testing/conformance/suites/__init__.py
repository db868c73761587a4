"""The checks, one module a suite: coroutine functions that are given a ``Stage``; a docstring is the promise."""
