"""Metrics and logs: what an operator sees, without content, numbers, tokens or keys."""
