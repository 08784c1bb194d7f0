"""Mutants of DICOM files, and what becomes of each when it is scanned and read."""

import resource
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from numpy.random import Generator
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.pixels import apply_rescale
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from ctsr.errors import CtsrError
from ctsr.exams import read_slice, scan_patient
from ctsr.padding import SlicePixels
from ctsr.series import Series
from tests.made.ct import chest, ct_slice, enhanced, slices

Mutator = Callable[[bytes, Generator], bytes]

SIZES = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel")
NUMBERS = ("RescaleSlope", "RescaleIntercept", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
HOSTILE = ("", "abc", "nan", "inf", "1e30", "-1e308", "0", "1,0", "9" * 16, "\x1b]0;x\x07", "1\\2\\3", "ÿ")


class Outcome(StrEnum):
    """What became of a mutant."""

    RIGHT = "right"
    """Read, and equal to what pydicom reads."""
    NAMED = "named"
    """Refused, or left out, in words."""
    UNJUDGED = "unjudged"
    """Read where pydicom cannot."""
    WRONG = "wrong"
    """Read with values that differ from pydicom's."""
    TRACEBACK = "traceback"
    """An error that is none of ours."""
    HANG = "hang"
    """No answer within `LONGEST`."""
    GREEDY = "greedy"
    """More memory than `MOST_MEMORY`."""


GOOD = frozenset({Outcome.RIGHT, Outcome.NAMED, Outcome.UNJUDGED})
"""What may become of a mutant."""
LONGEST = 30
"""Seconds after which a mutant of a few thousand bytes hangs, on a machine that has other work."""
MOST_MEMORY = 2 * 2**30
"""Bytes that this process may have, whatever a header promises."""
MUTANTS = "mutants"
"""What tests record a `Tally` as, in words: xdist hands on nothing but plain values."""
HIGH_WATER = Path("/proc/self/clear_refs")
"""Where Linux is told to forget the most memory that this process has had."""


class Read(NamedTuple):
    """One slice that was read out of a mutant."""

    series: Series
    index: int
    pixels: SlicePixels


class HungError(BaseException):
    """Raised in what is still at work on a mutant after `LONGEST`; no `except Exception` holds it up."""


@dataclass
class Tally:
    """What became of the mutants of a seed, and at what cost."""

    name: str
    counts: Counter[Outcome] = field(default_factory=Counter[Outcome])
    peak: int = 0
    """The most memory in bytes that this process had during any of them; on systems without `HIGH_WATER`, so far."""
    slowest: float = 0.0
    """Seconds that the slowest took."""

    def judge(self, number: int, look: Callable[[], tuple[Outcome, str]]) -> None:
        """Have a mutant looked at and count what becomes of it; one that is not `GOOD` fails the test."""
        if HIGH_WATER.exists():
            HIGH_WATER.write_text("5", encoding="ascii")
        started = time.perf_counter()
        try:
            with _at_most(LONGEST):
                found, detail = look()
        except HungError:
            found, detail = Outcome.HANG, f"no answer in {LONGEST} s"
        peak = memory_peak()
        self.slowest = max(self.slowest, time.perf_counter() - started)
        self.peak = max(self.peak, peak)
        if found in GOOD and peak > MOST_MEMORY:
            found, detail = Outcome.GREEDY, f"{peak / 2**20:.0f} MiB"
        self.counts[found] += 1
        assert found in GOOD, f"{self.name}, mutant {number}: {found}: {detail}"

    def __str__(self) -> str:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.counts.items()))
        cost = f"at most {self.peak / 2**20:.0f} MiB, the slowest {self.slowest:.2f} s"
        return f"{self.name}: {self.counts.total()}: {outcomes}; {cost}"


def memory_peak() -> int:
    """Bytes that this process had at most, since `HIGH_WATER` was told to forget where there is that."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    # In KiB on other systems, in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """Raise `HungError` in what takes longer."""

    def stop(number: int, frame: object) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def as_bytes(dataset: Dataset) -> bytes:
    """The file that a data set is stored as."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def seeds() -> dict[str, bytes]:
    """Small valid files by encoding."""
    plain = ct_slice(chest(24, 20))
    implicit = ct_slice(chest(24, 20))
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    packed = ct_slice(chest(24, 20))
    packed.compress(RLELossless)
    frames = enhanced(slices([chest(24, 20, seed=i) for i in range(3)]))
    found = {"explicit": plain, "implicit": implicit, "RLE": packed, "enhanced": frames}
    return {name: as_bytes(dataset) for name, dataset in found.items()}


def _flip(content: bytes, rng: Generator) -> bytes:
    changed = bytearray(content)
    for place in rng.integers(132, len(content), size=int(rng.integers(1, 6))):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _flip_header(content: bytes, rng: Generator) -> bytes:
    changed = bytearray(content)
    for place in rng.integers(132, min(len(content), 1400), size=2):
        changed[place] = int(rng.integers(256))
    return bytes(changed)


def _cut(content: bytes, rng: Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def _zero(content: bytes, rng: Generator) -> bytes:
    start, length = int(rng.integers(len(content))), int(rng.integers(1, 400))
    return content[:start] + bytes(length) + content[start + length :]


def _repeat(content: bytes, rng: Generator) -> bytes:
    start, length = int(rng.integers(len(content))), int(rng.integers(1, 200))
    return content[: start + length] + content[start:]


def _length(content: bytes, rng: Generator) -> bytes:
    place = int(rng.integers(140, min(len(content) - 4, 1400)))
    return content[:place] + struct.pack("<L", int(rng.integers(2**32))) + content[place + 4 :]


def _header_value(content: bytes, rng: Generator) -> bytes:
    dataset = pydicom.dcmread(BytesIO(content))
    if rng.random() < 0.5:
        name = str(rng.choice(SIZES))
        setattr(dataset, name, int(rng.choice([0, 1, 2, 3, 7, 8, 11, 12, 15, 16, 17, 19, 25, 32, 65535])))
        return as_bytes(dataset)
    name = str(rng.choice(NUMBERS))
    value = str(rng.choice(HOSTILE)).encode("latin-1")
    if name in dataset:
        # Past pydicom, which would refuse to write it.
        value += b" " * (len(value) % 2)
        form = {"is_implicit_VR": False, "is_little_endian": True}
        dataset[name] = RawDataElement(Tag(name), "DS", len(value), value, 0, **form)
    return as_bytes(dataset)


MUTATORS: tuple[Mutator, ...] = (_flip, _flip_header, _cut, _zero, _repeat, _length, _header_value, _header_value)


def mutant(content: bytes, rng: Generator) -> bytes:
    """A changed copy of a file; where a mutator cannot change it, one with flipped bits."""
    mutate = MUTATORS[int(rng.integers(len(MUTATORS)))]
    try:
        return mutate(content, rng)
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, struct.error):
        return _flip(content, rng)


def judged(path: Path, judge: Callable[[list[Read]], tuple[Outcome, str]]) -> tuple[Outcome, str]:
    """Scan and read a file: `judge` says whether what was read is right, with a word on what is wrong."""
    try:
        exams = scan_patient(path)
        found = [Read(series, i, read_slice(series, i)) for series in exams.series for i in range(len(series.slices))]
    except CtsrError as error:
        return (Outcome.NAMED, "") if "\n" not in str(error) else (Outcome.TRACEBACK, "several lines")
    except HungError:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever else gets through is what is looked for
        return Outcome.TRACEBACK, f"{type(error).__name__}: {error}"
    if not found:
        return Outcome.NAMED, ""
    return judge(found)


def outcome(path: Path) -> tuple[Outcome, str]:
    """Scan and read a file, and judge what was read by pydicom; with a word on what is wrong."""
    return judged(path, partial(_beside_pydicom, path))


def _beside_pydicom(path: Path, found: list[Read]) -> tuple[Outcome, str]:
    expected = _by_pydicom(path)
    if expected is None:
        return Outcome.UNJUDGED, ""
    for series, index, pixels in found:
        hu = expected[series.slices[index].frame or 0]
        kept = slice(None) if pixels.padding is None else ~pixels.padding
        if hu.shape != pixels.hu.shape:
            return Outcome.WRONG, f"shape {pixels.hu.shape}, not {hu.shape}"
        difference = np.abs(hu[kept] - pixels.hu[kept])
        if not np.allclose(hu[kept], pixels.hu[kept], rtol=1e-5, atol=1e-2):
            return Outcome.WRONG, f"off by {difference.max():g}"
    return Outcome.RIGHT, ""


def _by_pydicom(path: Path) -> list[np.ndarray] | None:
    """HU of each frame; None where pydicom cannot tell them."""
    try:
        dataset = pydicom.dcmread(path, force=True)
        stored = dataset.pixel_array
        frames = stored if stored.ndim == 3 else stored[None]
        hu: list[np.ndarray] = []
        for number, frame in enumerate(frames):
            source = dataset
            if "PerFrameFunctionalGroupsSequence" in dataset:
                source = dataset.PerFrameFunctionalGroupsSequence[number].PixelValueTransformationSequence[0]
            if "RescaleSlope" not in source or "RescaleIntercept" not in source:
                return None
            hu.append(np.asarray(apply_rescale(frame, source), dtype=np.float64))
    except Exception:  # noqa: BLE001 - a judge that cannot read says nothing
        return None
    return hu
