"""A network applied to whole slices."""

from ctsr.infer.slices import super_resolve

__all__ = ["super_resolve"]
