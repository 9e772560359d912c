"""The sparse post-quantum ratchet (SPQR V1), Signal's third ratchet. Start with `ratchet`."""

from __future__ import annotations

from raychat.crypto.spqr.ratchet import PostQuantumRatchet

__all__ = ["PostQuantumRatchet"]
