"""`ctsr doctor`."""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ctsr import __version__
from ctsr.cli.console import Console
from ctsr.cli.options import Common
from ctsr.errors import CtsrError
from ctsr.text import duration, one_line

if TYPE_CHECKING:  # torch is imported when there is something to compute, not for `--help`
    from ctsr.checkpoint import Model
    from ctsr.infer.engine import Engine

SIDE = 512
"""Rows and columns of the slice that engines are timed on."""
PACKAGES = ("numpy", "scipy", "pydicom", "torch", "openvino", "nibabel", "tyro")
EXTRAS = {
    "fast": "openvino",
    "export": "onnxruntime",
    "cluster": "distributed",
    "anonymize": "dicomanonymizer",
    "pyiqa": "pyiqa",
}
"""A package that tells whether an extra is installed."""
INSTRUCTIONS = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx_vnni", "avx512_vnni"),
    "AMX": ("amx_int8",),
    "NEON": ("asimd",),
}
"""Processor features by their names in /proc/cpuinfo; 8-bit engines are fastest with VNNI or AMX."""
CODECS = {
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG baseline": "1.2.840.10008.1.2.4.50",
    "JPEG lossless": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    topic: str
    text: str
    broken: bool = False


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Report what works on this machine, to read or to paste into a bug report.

    It lists versions, processor, devices, codecs, weights, caches and extras, and the time that each engine and
    precision takes for one slice of 512 by 512 pixels with a bundled model. A missing extra is not an error.

    ctsr doctor

    ctsr doctor --no_timing
    """

    timing: bool = True
    """Time one slice with each engine and precision, which takes up to a minute."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 0, or 1 if something is broken."""
        checks = [_system, _devices, _codecs, _caches, _weights, _extras, *([_engines] if self.timing else [])]
        broken = 0
        for check in checks:
            for finding in check():
                broken += finding.broken
                mark = "BROKEN  " if finding.broken else ""
                console.print(f"{finding.topic:<12}{mark}{finding.text}")
        console.print(f"{broken} broken" if broken else "nothing is broken")
        return int(broken > 0)


def _system() -> Iterator[Finding]:
    yield Finding("ctsr", __version__)
    yield Finding("python", f"{platform.python_version()} on {platform.platform()}")
    for package in PACKAGES:
        try:
            yield Finding(package, version(package))
        except PackageNotFoundError:
            yield Finding(package, "not installed")
    flags = _processor_flags()
    names = [name for name, spellings in INSTRUCTIONS.items() if flags & set(spellings)]
    yield Finding("processor", f"{os.cpu_count()} cores, {', '.join(names) or 'instruction sets unknown'}")


def _processor_flags() -> frozenset[str]:
    """Feature names from /proc/cpuinfo; empty on other systems than Linux."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return frozenset()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("devices", f"cpu with {torch.get_num_threads()} threads")
    for index in range(torch.cuda.device_count()):
        yield Finding("devices", f"cuda:{index} {torch.cuda.get_device_name(index)}")
    if torch.backends.mps.is_available():
        yield Finding("devices", "mps")


def _codecs() -> Iterator[Finding]:
    from pydicom.uid import UID

    from ctsr.dicom.codecs import decoder_for

    for name, uid in CODECS.items():
        available = decoder_for(UID(uid)).is_available
        yield Finding("codec", f"{name}: {'available' if available else 'no decoder'}", broken=not available)


def _caches() -> Iterator[Finding]:
    from ctsr.data.hu_cache import default_store
    from ctsr.infer.openvino_engine import default_cache as engine_cache
    from ctsr.weights import default_cache as weights_cache

    for folder in (default_store(), engine_cache(), weights_cache()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                yield Finding("cache", f"{folder}: writable")
        except OSError as error:
            yield Finding("cache", f"{folder}: {one_line(error)}", broken=True)


def _weights() -> Iterator[Finding]:
    from ctsr.checkpoint.model_lookup import BUNDLED
    from ctsr.weights import WEIGHTS
    from ctsr.weights.cache import cached_path

    for model in BUNDLED.values():
        present = model.file.is_file()
        yield Finding("model", f"{model.name}: {'bundled' if present else 'file is missing'}", broken=not present)
    missing = [name for name in WEIGHTS if not cached_path(name).is_file()]
    if missing:
        yield Finding("weights", f"not fetched: {', '.join(missing)}; ctsr weights fetch {missing[0]}")


def _extras() -> Iterator[Finding]:
    for extra, package in EXTRAS.items():
        if find_spec(package) is None:
            how = f"not installed; pip install '.[{extra}]' in the source folder of ctsr"
            yield Finding("extra", f"{extra}: {how}")
        else:
            yield Finding("extra", f"{extra}: installed")


def _engines() -> Iterator[Finding]:
    from ctsr.checkpoint import load_model
    from ctsr.checkpoint.model_lookup import BUNDLED
    from ctsr.infer.engine import TorchEngine
    from ctsr.infer.openvino_engine import OpenvinoEngine, converted, is_installed
    from ctsr.models.conditioning import input_channels
    from ctsr.quantization.quantized_model import Int8Network

    def openvino(generator: "Model") -> "Engine":
        return OpenvinoEngine(converted(generator.net))

    makers: dict[str, Callable[[Model], Engine]] = {"torch fp32": lambda generator: TorchEngine(generator.net)}
    if is_installed():
        makers |= {"openvino fp32": openvino, "openvino int8": Int8Network().open}
    name, model = next(iter(BUNDLED.items()))
    for engine, make in makers.items():
        try:
            generator = load_model(model.file)
            seconds = _seconds(make(generator), input_channels(generator.net))
            yield Finding("engine", f"{engine}: {duration(seconds)} for {SIDE}² pixels with {name}")
        except (CtsrError, OSError, RuntimeError) as error:
            yield Finding("engine", f"{engine}: {one_line(error)}", broken=True)


def _seconds(engine: "Engine", channels: int) -> float:
    """Time of the second of two runs: the first compiles the network for the shape."""
    import torch

    lr = torch.zeros(1, channels, SIDE, SIDE)
    engine(lr)
    started = time.perf_counter()
    engine(lr)
    return time.perf_counter() - started
