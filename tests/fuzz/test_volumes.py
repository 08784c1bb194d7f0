"""Mutated NRRD and MetaImage are read as SimpleITK reads them, or refused in one line. `make fuzz N=5000`: more."""

import gzip
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator

from tests.fuzz.mutants import MOST_MEMORY, MUTANTS, Outcome, Read, Tally, judged, memory_peak
from tests.made.ct import chest

sitk = pytest.importorskip("SimpleITK")
COUNT = int(os.environ.get("CTSR_FUZZ", "60"))
"""Mutants of each seed."""
SHAPE = (3, 24, 20)
TOKENS = (
    b"0",
    b"-1",
    b"1e-30",
    b"1e30",
    b"nan",
    b"inf",
    b"99999999999",
    b"1e5",
    b"",
    b"(0,0,0)",
    b"abc",
    b"2",
    b"\xff",
)
"""What a number of a header may have become."""
ENCODINGS = {
    "nrrd": (b"raw", b"gzip", b"gz", b"bzip2", b"txt", b"ascii", b"hex", b"zrl", b"none"),
    "mha": (b"True", b"False", b"2", b""),
}
TYPES = (b"uchar", b"int64", b"double", b"float", b"block", b"MET_UCHAR", b"MET_DOUBLE", b"MET_STRING", b"nothing")
CANARY = 77
"""Value of every voxel of a file beside the volume, which nothing may read."""


def seeds(folder: Path) -> dict[str, bytes]:
    """A volume of three slices in each format, plain and compressed."""
    image = sitk.GetImageFromArray(np.stack([chest(*SHAPE[1:], seed=i) for i in range(3)]).astype("<i2"))
    image.SetSpacing((0.8, 0.8, 2.5))
    found: dict[str, bytes] = {}
    for suffix in ("nrrd", "mha"):
        for is_packed in (False, True):
            path = folder / f"seed.{suffix}"
            sitk.WriteImage(image, path, useCompression=is_packed)
            found[f"{suffix}{' packed' if is_packed else ''}"] = path.read_bytes()
    return found


def header_end(content: bytes) -> int:
    """Where the voxels begin."""
    mark = re.search(rb"\n\n|ElementDataFile = LOCAL\n", content)
    assert mark is not None
    return mark.end()


def mutant(content: bytes, suffix: str, rng: Generator) -> bytes:
    """A changed copy of a file."""
    end = header_end(content)
    changed = bytearray(content)
    header = content[:end]
    match int(rng.integers(8)):
        case 0:
            for place in rng.integers(len(content), size=int(rng.integers(1, 6))):
                changed[place] ^= 1 << int(rng.integers(8))
        case 1:
            changed[int(rng.integers(end))] = int(rng.integers(256))
        case 2 | 3:
            numbers = list(re.finditer(rb"-?\d+(\.\d+)?", header))
            chosen = numbers[int(rng.integers(len(numbers)))]
            changed[chosen.start() : chosen.end()] = TOKENS[int(rng.integers(len(TOKENS)))]
        case 4:
            what = rb"(?<=encoding: )\S+" if suffix == "nrrd" else rb"(?<=CompressedData = )\S+"
            changed = bytearray(
                re.sub(what, ENCODINGS[suffix][int(rng.integers(len(ENCODINGS[suffix])))], content, count=1)
            )
        case 5:
            what = rb"(?<=type: )\S+" if suffix == "nrrd" else rb"(?<=ElementType = )\S+"
            changed = bytearray(re.sub(what, TYPES[int(rng.integers(len(TYPES)))], content, count=1))
        case 6:
            del changed[int(rng.integers(len(content))) :]
        case _:
            lines = header.split(b"\n")
            del lines[int(rng.integers(len(lines)))]
            changed = bytearray(b"\n".join(lines) + content[end:])
    return bytes(changed)


def outcome(path: Path) -> tuple[Outcome, str]:
    """Scan and read a file, and judge values and places by SimpleITK; with a word on what is wrong."""
    return judged(path, partial(_beside_simpleitk, path))


def _beside_simpleitk(path: Path, found: list[Read]) -> tuple[Outcome, str]:
    image = sitk.ReadImage(path)
    for series, index, pixels in found:
        if (pixels.hu == CANARY).all():
            return Outcome.WRONG, "the file beside it was read"
        for row, column in ((0, 0), (5, 3), (series.rows - 1, series.columns - 1), (series.rows // 2, 7)):
            if pixels.padding is not None and pixels.padding[row, column]:
                continue
            place = image.TransformPhysicalPointToContinuousIndex(series.plane(index).position(row, column))
            voxel = [round(float(part)) for part in place]
            away = max(abs(part - whole) for part, whole in zip(place, voxel, strict=True))
            if away > 0.02 or not np.isclose(image[voxel], pixels.hu[row, column]):
                return Outcome.WRONG, f"{pixels.hu[row, column]} at {place}"
    return Outcome.RIGHT, ""


@pytest.mark.parametrize("kind", ["nrrd", "nrrd packed", "mha", "mha packed"])
def test_a_mutated_volume_is_read_right_or_refused_in_words(
    kind: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    suffix = kind.partition(" ")[0]
    content, tally = seeds(tmp_path)[kind], Tally(kind)
    for number in range(COUNT // 2):
        path = tmp_path / f"{number}.{suffix}"
        path.write_bytes(mutant(content, suffix, np.random.default_rng([number, len(kind)])))
        tally.judge(number, partial(outcome, path))
        path.unlink()
    record_property(MUTANTS, str(tally))
    assert tally.counts[Outcome.NAMED] > COUNT / 20
    assert tally.counts[Outcome.RIGHT] > COUNT / 20


ELSEWHERE = {
    "nrrd": [
        b"data file: %s",
        b"datafile: %s",
        b"Data File: %s",
        b"DATA FILE:%s",
        b"data file: LIST\n%s",
        b"data file: LIST 2\n%s",
        b"data file: slice%%03d.raw 1 3 1",
    ],
    "mha": [
        b"ElementDataFile = %s",
        b"ElementDataFile=%s",
        b"ElementDataFile: %s",
        b"ElementDataFile = LIST\n%s",
        b"ElementDataFile = slice%%03d.raw 1 3 1",
        b"ElementDataFile = ./%s",
    ],
}
"""Lines by which a header says that its voxels lie in another file."""


@pytest.mark.parametrize("where", ["below", "beside"])
@pytest.mark.parametrize(("suffix", "line"), [(suffix, line) for suffix in ELSEWHERE for line in ELSEWHERE[suffix]])
def test_voxels_of_another_file_are_never_read(suffix: str, line: bytes, where: str, tmp_path: Path) -> None:
    content = seeds(tmp_path)[suffix]
    folder = tmp_path / "patient"
    folder.mkdir()
    canary = np.full(SHAPE, CANARY, "<i2").tobytes()
    target = folder / "other.raw" if where == "below" else tmp_path / "other.raw"
    target.write_bytes(canary)
    for number in (1, 2, 3):
        (folder / f"slice{number:03d}.raw").write_bytes(canary[: len(canary) // 3])
    named = os.path.relpath(target, folder).encode()
    said = line % named if b"%s" in line else line.replace(b"%%", b"%")
    if suffix == "nrrd":
        content = content.replace(b"\n\n", b"\n" + said + b"\n\n", 1)
    else:
        content = content.replace(b"ElementDataFile = LOCAL", said, 1)
    for keeps in (True, False):  # with voxels of its own, and without
        path = folder / f"ct.{suffix}"
        path.write_bytes(
            content if keeps else content[: header_end(content) if suffix == "nrrd" else -2 * np.prod(SHAPE)]
        )
        found, detail = outcome(path)
        assert found is Outcome.NAMED, (keeps, detail)


def test_a_stream_that_inflates_without_end_takes_no_memory(tmp_path: Path) -> None:
    content = seeds(tmp_path)["nrrd packed"]
    bomb = gzip.compress(bytes(2**22)) * 600  # 2.5 GB in 2.5 MB
    path = tmp_path / "bomb.nrrd"
    path.write_bytes(content[: header_end(content)] + bomb)
    tally = Tally("bomb")
    tally.judge(0, partial(outcome, path))
    assert memory_peak() < MOST_MEMORY


@pytest.mark.parametrize(
    ("own", "other"),
    [
        *((b"NDims = 3", b"NDims = " + number) for number in (b"1e5", b"-1", b"1e30", b"99999999999", b"0", b"", b"4")),
        (b"NDims = 3", b"NDims = 3\nNDims = 1e5"),
        (b"NDims = 3", b"NDims = 3\n NDims = 1e5"),
        (b"= LOCAL\n", b"= LOCAL\x1d"),
    ],
)
def test_headers_that_end_simpleitk_are_refused_before_it(own: bytes, other: bytes, tmp_path: Path) -> None:
    """It takes the process with it: no boundary of ours could keep the other files."""
    content = seeds(tmp_path)["mha packed"]
    assert own in content
    (tmp_path / "ct.mha").write_bytes(content.replace(own, other, 1))
    assert outcome(tmp_path / "ct.mha") == (Outcome.NAMED, "")


@pytest.mark.parametrize(("suffix", "sizes"), [("nrrd", b"sizes: %d %d %d"), ("mha", b"DimSize = %d %d %d")])
@pytest.mark.parametrize("shape", [(32000, 32000, 30000), (2**31, 2**31, 2**31), (20, 24, 2**40), (0, 24, 3)])
def test_a_header_that_promises_more_than_there_is_takes_no_memory(
    suffix: str, sizes: bytes, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    for number, content in enumerate(seeds(tmp_path)[kind] for kind in (suffix, f"{suffix} packed")):
        path = tmp_path / f"{number}.{suffix}"
        own = sizes % (SHAPE[2], SHAPE[1], SHAPE[0])
        assert own in content
        path.write_bytes(content.replace(own, sizes % shape, 1))
        tally = Tally("sizes")
        tally.judge(number, partial(outcome, path))
        assert tally.counts[Outcome.NAMED] == 1
