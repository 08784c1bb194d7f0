"""The usual way to resample exams: read, zoom, save, one slice after the other. ROOT OUT; prints the seconds."""

import sys
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian
from scipy import ndimage

SPACING = 0.8


def main(root: Path, out: Path) -> None:
    """Every `.dcm` below `root`; nothing is looked at, checked or remembered."""
    out.mkdir(parents=True)
    for i, path in enumerate(sorted(root.rglob("*.dcm"))):
        zoom(path, out / f"{i}.dcm")


def zoom(source: Path, target: Path) -> None:
    """One slice."""
    dataset = pydicom.dcmread(source)
    hu = dataset.pixel_array.astype(np.float32) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    factors = [float(spacing) / SPACING for spacing in dataset.PixelSpacing]
    zoomed = np.rint(np.asarray(ndimage.zoom(hu, factors, order=1))).astype(np.int16)
    dataset.Rows, dataset.Columns = zoomed.shape
    dataset.PixelSpacing = [SPACING, SPACING]
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.PixelData = zoomed.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(target)


if __name__ == "__main__":
    started = time.perf_counter()
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    print(time.perf_counter() - started)
