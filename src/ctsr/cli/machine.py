"""`ctsr doctor`, `cache` and `demo`: whether an installation works, what it keeps, and each step of the work."""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from ctsr import __version__
from ctsr.cli.console import NONE, Console, mm
from ctsr.cli.options import Common
from ctsr.errors import CtsrError, UsageError
from ctsr.paths import PARTS, cache_place, cache_uses, clean
from ctsr.reporting import duration, one_line, size

if TYPE_CHECKING:
    from ctsr.checkpoint import Model
    from ctsr.infer.engine import Engine

SIDE = 512
"""Rows and columns of the slice that engines are timed on."""
PACKAGES = ("numpy", "scipy", "pydicom", "torch", "openvino", "nibabel", "tyro")
EXTRAS = {
    "fast": "openvino",
    "export": "onnxruntime",
    "cluster": "distributed",
    "node": "pynetdicom",
    "anonymize": "dicomanonymizer",
    "enhanced": "highdicom",
    "volumes": "SimpleITK",
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

    from ctsr.dicom.pixels import decoder_for

    for name, uid in CODECS.items():
        available = decoder_for(UID(uid)).is_available
        yield Finding("codec", f"{name}: {'available' if available else 'no decoder'}", broken=not available)


def _caches() -> Iterator[Finding]:
    from ctsr.data.hu_cache import default_store
    from ctsr.infer.engine import default_cache as engine_cache
    from ctsr.weights import default_cache as weights_cache

    if note := cache_place().note:
        yield Finding("cache", note)
    for folder in (default_store(), engine_cache(), weights_cache()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                yield Finding("cache", f"{folder}: writable")
        except OSError as error:
            yield Finding("cache", f"{folder}: {one_line(error)}", broken=True)


def _weights() -> Iterator[Finding]:
    from ctsr.checkpoint.model_lookup import BUNDLED, SLICE_MODELS
    from ctsr.weights import WEIGHTS, cached_path

    for model in (*BUNDLED.values(), *SLICE_MODELS.values()):
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
    from ctsr.infer.engine import OpenvinoEngine, TorchEngine, computes_bf16, converted, is_installed
    from ctsr.models.conditioning import input_channels
    from ctsr.quantization.acceptance import SyntheticSlices
    from ctsr.quantization.quantized_model import Int8Network

    def openvino(generator: "Model") -> "Engine":
        return OpenvinoEngine(converted(generator.net))

    def bf16(generator: "Model") -> "Engine":
        return OpenvinoEngine(converted(generator.net), "bf16")

    def int8(generator: "Model") -> "Engine":
        return Int8Network(SyntheticSlices()).open(generator)

    makers: dict[str, Callable[[Model], Engine]] = {"torch fp32": lambda generator: TorchEngine(generator.net)}
    if is_installed():
        makers |= {"openvino fp32": openvino, "openvino int8": int8}
        makers |= {"openvino bf16": bf16} if computes_bf16() else {}
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


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Run the whole job on a synthetic exam set: preprocess, split, train a small net, evaluate.

    The model that comes with ctsr is evaluated beside the one that is trained. Takes minutes.

    ctsr demo

    ctsr demo --make_data EXAMS        (only write the exams)
    """

    out_dir: Path = Path("demo_output")
    """Receives exams, preprocessed data, the trained model and its evaluation."""
    make_data: Path | None = None
    """Only write the synthetic exams, into this folder."""
    epochs: int = 10
    """Epochs of the training; more take longer and give a better model."""
    seed: int = 0
    """Seed of the synthetic exams."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Make the exams, and unless only they were asked for, do the whole job on them.

        Exit status: 0, or 1 when a series could not be used or a part of the evaluation failed.
        """
        if self.make_data is not None:
            return self._make_data(self.make_data, console)
        from ctsr.cli.training import show
        from ctsr.demo import run_demo

        result = run_demo(self.out_dir, epochs=self.epochs, seed=self.seed, progress=console)
        show(console, result.evaluation)
        trained, bundled = result.evaluation.model_methods
        console.print(f"{trained} was just trained on such exams; {bundled} comes with ctsr and has never seen one.")
        console.print(f"model:   {result.run_folder / 'best.pth'}")
        console.print(f"picture: {result.picture}")
        console.print(f"report:  {result.evaluation.folder / 'report.html'}")
        return int(result.failed)

    def _make_data(self, folder: Path, console: Console) -> int:
        from ctsr.phantom import make_exams

        exams = make_exams(folder, seed=self.seed, progress=console)
        columns = ("patient", "series", "kernel", "spacing mm", "step mm", "landmarks")
        rows = [
            (
                exam.patient_id,
                exam.path.name,
                exam.kernel,
                mm(exam.spacing[1]),
                mm(exam.spacing[0]),
                str(len(exam.landmarks)),
            )
            for exam in exams
        ]
        console.table(f"Synthetic exams in {folder}", columns, rows)
        console.print(f"known HU in known places: {folder / 'truth.json'}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Show what ctsr keeps between runs, or remove it. Everything but the weights is made again where it is missed.

    ctsr cache list

    ctsr cache clean                     (decoded series and converted networks)

    ctsr cache clean store --unused_days 30
    """

    action: tyro.conf.Positional[Literal["list", "clean"]]
    """What to do."""
    parts: tyro.conf.Positional[tuple[Literal["store", "engines", "weights"], ...]] = ()
    """What to show or remove; `clean` alone takes store (pixels of patients) and engines."""
    unused_days: float = 0.0
    """Keep what was used within this many days."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status 0."""
        if not self.unused_days >= 0:
            raise UsageError(f"--unused_days must not be negative, got {self.unused_days:g}")
        if self.action == "clean":
            for part in self.parts or ("store", "engines"):
                removed = clean(part, unused_days=self.unused_days)
                console.print(f"{part}: {size(removed)} removed")
            return 0
        rows = [
            (
                use.part,
                str(use.entries),
                size(use.num_bytes),
                NONE if use.last_change is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(use.last_change)),
                PARTS[use.part],
            )
            for use in cache_uses()
            if not self.parts or use.part in self.parts
        ]
        console.table(f"Cache in {cache_place().folder}", ("part", "entries", "size", "newest", "what it is"), rows)
        return 0
