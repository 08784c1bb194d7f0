"""Parts of the report that only some evaluations have."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["NONE", "Section", "SectionTable", "number"]

NONE = "–"
"""Stands where there is no value."""


@dataclass(frozen=True)
class SectionTable:
    """A table of words."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the page that only some evaluations have."""

    anchor: str
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[SectionTable] = ()
    pictures: Sequence[tuple[str, str]] = ()
    """Name of a plot, and its caption."""
    notes: Sequence[str] = ()


def number(value: float | None, digits: int) -> str:
    """For a cell, with a minus sign that is one."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "−")
