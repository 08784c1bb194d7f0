"""Tests that take long."""
SLOW: dict[str, frozenset[str] | None] = {}
