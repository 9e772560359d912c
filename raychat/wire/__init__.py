"""Bytes: what crosses a socket, and nothing else. Pure; PROTOCOL.md describes it all."""
