"""Durable state behind small protocols: `protocol` says what a store does, `sqlite` does it."""
