"""`ctsr preprocess` on two cores against read → zoom → save, one slice after the other."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
from scipy import ndimage

from benchmarks.common import compare, exams, report, workspace
from ctsr.data.roots import open_roots
from ctsr.preprocess import preprocess

SPACING = 0.8


def run() -> None:
    """Slices per second, start-up of the processes included."""
    with workspace() as folder:
        root = exams(folder)
        files = [
            header.path for patient in open_roots([root]).usable for one in patient.series for header in one.slices
        ]

        def ours() -> int:
            shutil.rmtree(folder / "ours", ignore_errors=True)
            preprocess(root, folder / "ours", target_spacing=SPACING, workers=2)
            return len(files)

        def theirs() -> int:
            shutil.rmtree(folder / "theirs", ignore_errors=True)
            (folder / "theirs").mkdir()
            for i, path in enumerate(files):
                _zoom_one(path, folder / "theirs" / f"{i}.dcm")
            return len(files)

        report("slices preprocessed, two cores", "slices/s", compare(ours, theirs, rounds=3), asked="at least 2")


def _zoom_one(source: Path, target: Path) -> None:
    dataset = pydicom.dcmread(source)
    hu = dataset.pixel_array.astype(np.float32) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    factors = [float(spacing) / SPACING for spacing in dataset.PixelSpacing]
    zoomed = np.rint(ndimage.zoom(hu, factors, order=1)).astype(np.int16)
    dataset.PixelData = zoomed.tobytes()
    dataset.Rows, dataset.Columns = zoomed.shape
    dataset.PixelSpacing = [SPACING, SPACING]
    dataset.save_as(target)
