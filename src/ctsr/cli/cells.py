"""How values read in the cells of a table."""

__all__ = ["NONE", "mm", "pixels"]

NONE = "–"
"""Where there is nothing to show."""


def mm(*lengths: float | None) -> str:
    """Lengths in mm, along several axes unless they are all alike: `0.7 × 0.8`."""
    return " × ".join(dict.fromkeys(NONE if length is None else f"{length:.4g}" for length in lengths))


def pixels(*counts: int | None) -> str:
    """A size in pixels: `512 × 512`."""
    return " × ".join(map(str, counts))
