"""Real parts that a test needs: missing on a user's machine it skips, missing in CI it fails."""

import os
import shutil

import pytest

REQUIRE_ALL = "CTSR_REQUIRE_ALL"
"""Set in CI: nothing that can be installed there may be missing."""


def needs(present: bool, what: str) -> None:
    """Skip the test, or fail it in CI, when a real part is not at hand; `what` says how to get it."""
    if present:
        return
    if os.environ.get(REQUIRE_ALL):
        pytest.fail(f"CI must have this: {what}")
    pytest.skip(what)


def needs_program(name: str, package: str) -> str:
    """The path of a program, from this Debian package."""
    path = shutil.which(name)
    needs(path is not None, f"install {name} (Debian package {package}) to run this")
    return path or ""
