"""Write the synthetic exam set: one folder per patient, one per series, valid DICOM, and the truth beside them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ctsr.demo.body import Body, PixelGrid, Plug
from ctsr.demo.headers import Placement, SeriesIdentity, ct_dataset
from ctsr.demo.patients import Acquisition, Patient, patient
from ctsr.demo.scanner import KERNELS, acquire, store
from ctsr.demo.shapes import Image
from ctsr.demo.truth import ExamTruth, Landmark, landmarks, plugs, write_truth
from ctsr.errors import DomainError
from ctsr.files import atomic_path
from ctsr.hashing import rng_from
from ctsr.pool import available_cores, in_order, pool
from ctsr.progress import SILENT, Progress

__all__ = ["ExamTruth", "Landmark", "make_exams"]

_BLOCK = 8
_SLAB_STEP = 2.0
_SCOUT_SPACING = 3.0
_SCOUT_MATRIX = 128


def make_exams(
    out_dir: Path,
    *,
    seed: int = 0,
    patients: int = 8,
    slices: int = 24,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> tuple[ExamTruth, ...]:
    """Write ``out_dir/<patient>/<series>/<n>.dcm`` and ``out_dir/truth.json``.

    The same seed gives the same bytes, whatever the number of workers. The first six patients show every style of
    scanner there is, a localizer, a patient with two series and an implant.

    Args:
        out_dir: made if need be; files of the same names are replaced.
        seed: from which bodies, lesions, noise and UIDs are drawn.
        patients: how many people, at least 1.
        slices: axial slices in each series, at least 1, around the middle of its region.
        workers: processes; by default as many as this process may use, and 1 works in this process.
        progress: told of each finished block of slices.

    Returns:
        One entry per axial series, with its landmarks.

    Raises:
        DomainError: fewer than one patient or slice was asked for.
    """
    if patients < 1 or slices < 1:
        raise DomainError(f"the synthetic set needs at least 1 patient and 1 slice, got {patients} and {slices}")
    scans = [_Scan(out_dir, patient(number + 1), seed, slices) for number in range(patients)]
    blocks = [block for scan in scans for block in scan.blocks()]
    with pool(available_cores() if workers is None else workers) as executor:
        done = progress.track(in_order(_write, blocks, executor), total=len(blocks), what="synthetic exams")
        truths = tuple(truth for truth in done if truth is not None)
    write_truth(out_dir / "truth.json", truths)
    return truths


@dataclass(frozen=True)
class _Scan:
    """One patient on the table."""

    out_dir: Path
    patient: Patient
    seed: int
    slices: int

    @property
    def focus(self) -> float:
        """The middle of the scan in the body's coordinates, mm."""
        return round(self.patient.focus * self.patient.plan.scale[2], 1)

    def acquisition(self, series: int) -> Acquisition:
        return self.patient.acquisitions[series]

    def identity(self, series: int) -> SeriesIdentity:
        """The header of a series; number 1 is kept for the localizer."""
        acquisition = self.acquisition(series)
        description = f"{self.patient.region.title()} {acquisition.thickness:g} mm {acquisition.kernel}"
        return SeriesIdentity(
            self.patient, self.seed, series + 2, description, acquisition.kernel, acquisition.thickness
        )

    def folder(self, series: int) -> Path:
        acquisition = self.acquisition(series)
        return self.out_dir / self.patient.patient_id / f"{series + 2:02d}_{acquisition.kernel}"

    def heights(self, series: int) -> tuple[float, ...]:
        return self.acquisition(series).heights(self.focus, self.slices)

    def rng(self, *parts: str | int) -> np.random.Generator:
        """Randomness for one purpose, from the seed, the patient and its name alone."""
        return rng_from("ctsr demo", self.seed, self.patient.number, *parts)

    def blocks(self) -> Iterator["_Block"]:
        """The work in pieces of a few slices; the localizer is one of its own."""
        if self.patient.localizer:
            yield _Block(self, None, ())
        for series in range(len(self.patient.acquisitions)):
            for start in range(0, self.slices, _BLOCK):
                yield _Block(self, series, tuple(range(start, min(start + _BLOCK, self.slices))))

    def truth(self, series: int) -> ExamTruth:
        """What a written series shows."""
        acquisition, scanner = self.acquisition(series), self.patient.scanner
        body, placed = _body(self)
        return ExamTruth(
            patient_id=self.patient.patient_id,
            path=self.folder(series),
            series_uid=self.identity(series).series_uid,
            spacing=(acquisition.step, acquisition.spacing, acquisition.spacing),
            kernel=acquisition.kernel,
            padding_hu=float(scanner.padding + scanner.rescale_intercept),
            landmarks=landmarks(self.patient, acquisition, self.heights(series), (*body.implants, *placed)),
        )


@dataclass(frozen=True)
class _Block:
    """Some slices of one series, or the localizer where there is no series."""

    scan: _Scan
    series: int | None
    indices: tuple[int, ...]


@lru_cache(maxsize=2)
def _body(scan: _Scan) -> tuple[Body, tuple[Plug, ...]]:
    """The body on the table with all that was put into it; kept, because its trees take half a second to grow."""
    body = Body(scan.patient.plan, int(scan.rng("body").integers(2**62)))
    heights = scan.heights(0)
    return body, plugs(body, scan.patient, heights[0], heights[-1], scan.rng("plugs"))


def _write(block: _Block) -> ExamTruth | None:
    """Render, scan and write the images of a block; the first of a series gives the series' truth."""
    if block.series is None:
        _write_localizer(block.scan)
        return None
    for index in block.indices:
        _write_slice(block.scan, block.series, index)
    return block.scan.truth(block.series) if 0 in block.indices else None


def _write_slice(scan: _Scan, series: int, index: int) -> None:
    """One axial image; instance 1 is the one nearest to the head."""
    acquisition, scanner, identity = scan.acquisition(series), scan.patient.scanner, scan.identity(series)
    grid, z = acquisition.grid(), scan.heights(series)[index]
    hu = acquire(
        _slab(scan, grid, z, acquisition.thickness),
        scanner,
        KERNELS[acquisition.kernel],
        spacing=acquisition.spacing,
        thickness=acquisition.thickness,
        rng=scan.rng("noise", series, index),
    )
    x0, y0, z0 = scan.patient.isocentre
    instance = scan.slices - index
    placement = Placement((x0 + grid.left, y0 + grid.top, z0 + z), acquisition.spacing)
    dataset = ct_dataset(identity, placement, instance, store(hu, scanner))
    _save(dataset, scan.folder(series) / f"{instance:04d}.dcm")


def _save(dataset: Dataset, path: Path) -> None:
    with atomic_path(path, durable=False) as part:
        dataset.save_as(part, enforce_file_format=True)


def _slab(scan: _Scan, grid: PixelGrid, z: float, thickness: float) -> Image:
    """The mean of thin planes through the thickness of a slice."""
    body, placed = _body(scan)
    count = max(1, round(thickness / _SLAB_STEP))
    planes = [z + ((k + 0.5) / count - 0.5) * thickness for k in range(count)]
    total = body.render(grid, planes[0], placed)
    for height in planes[1:]:
        total += body.render(grid, height, placed)
    return total / np.float32(count)


def _write_localizer(scan: _Scan) -> None:
    """A view from the front: the mean over the body's depth at a few hundred heights, as a scout shows it."""
    body, _ = _body(scan)
    half = (_SCOUT_MATRIX - 1) / 2 * _SCOUT_SPACING
    grid = PixelGrid(-half, -half, _SCOUT_SPACING, _SCOUT_MATRIX)
    rows = [body.render(grid, half - 40 - row * _SCOUT_SPACING).mean(axis=0) for row in range(_SCOUT_MATRIX)]
    scanner = scan.patient.scanner
    summed = (np.stack(rows) + 1000) * 2 - 1000
    x0, y0, z0 = scan.patient.isocentre
    identity = SeriesIdentity(scan.patient, scan.seed, 1, "Localizer", "LOCALIZER", 1.0)
    placement = Placement(
        (x0 - half, y0, z0 + half - 40), _SCOUT_SPACING, (1, 0, 0, 0, 0, -1), ("ORIGINAL", "PRIMARY", "LOCALIZER")
    )
    stored = scanner.quantise(summed)
    path = scan.out_dir / scan.patient.patient_id / "01_localizer" / "0001.dcm"
    _save(ct_dataset(identity, placement, 1, stored), path)
