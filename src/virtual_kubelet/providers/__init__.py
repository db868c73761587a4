"""The providers that come along: found like any other, and importing public names only."""
