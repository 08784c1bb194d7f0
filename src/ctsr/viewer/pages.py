"""The files of the page: a literal table, so that no name from outside ever reaches the file system."""

from functools import cache
from importlib.resources import files

__all__ = ["STATIC", "content"]

SCRIPT, STYLE, PAGE, PICTURE = "text/javascript", "text/css", "text/html", "image/svg+xml"

STATIC = {
    "": ("index.html", PAGE),
    "style.css": ("style.css", STYLE),
    "icon.svg": ("icon.svg", PICTURE),
    **{
        f"{name}.js": (f"{name}.js", SCRIPT)
        for name in (
            *("main", "api", "state", "store", "draw", "panels", "marks", "input", "controls", "sidebar"),
            *("profile", "save", "format", "help"),
        )
    },
}
"""Path below the token → file in `page/` and its type."""


@cache
def content(name: str) -> bytes:
    """A file of `page/`; `name` is one of the table's own."""
    return files("ctsr.viewer").joinpath("page", name).read_bytes()
