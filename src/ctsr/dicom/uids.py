"""Unique identifiers made from names, so that the same work gives the same UIDs on every run and machine."""

import uuid

from ctsr.hashing import digest

__all__ = ["IMPLEMENTATION_CLASS_UID", "IMPLEMENTATION_VERSION_NAME", "derived_uid"]


def derived_uid(*parts: str) -> str:
    """The UID that belongs to `parts`, in this order: ``2.25.`` and an integer of at most 39 digits.

    DICOM's PS3.5 B.2 lets anyone make a UID from a UUID. Ours is a name-based one of version 5 layout, its bits
    taken from a digest that keeps the parts apart: ``("ab", "c")`` and ``("a", "bc")`` differ.
    """
    return f"2.25.{uuid.UUID(bytes=digest(*parts), version=5).int}"


IMPLEMENTATION_CLASS_UID = derived_uid("ctsr", "implementation class")
"""Says in the file meta which program wrote a file; the same for every version of ctsr."""

IMPLEMENTATION_VERSION_NAME = "CTSR_0.1"
"""The version that wrote a file; at most 16 characters."""
