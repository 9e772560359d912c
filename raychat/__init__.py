"""raychat: an end-to-end encrypted messenger whose servers are actors on a Ray cluster."""

__version__ = "0.1.0"
