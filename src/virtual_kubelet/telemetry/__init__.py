"""Logs, traces and metrics. All of it travels with the context (contextvars), not through arguments."""
