"""The script that `ctsr preprocess` is measured against: `python -m benchmarks.zoom ROOT SPACING OUT`."""

import sys
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian
from scipy import ndimage


def main(root: str, spacing: str, out: str) -> None:
    """Every slice below `root`, one after the other."""
    Path(out).mkdir()
    for i, path in enumerate(path for path in sorted(Path(root).rglob("*")) if path.is_file()):
        try:
            dataset = pydicom.dcmread(path)
        except InvalidDicomError:
            continue
        _zoom(dataset, float(spacing))
        dataset.save_as(Path(out) / f"{i}.dcm")


def _zoom(dataset: pydicom.Dataset, target: float) -> None:
    hu = dataset.pixel_array.astype(np.float32) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    factors = [float(spacing) / target for spacing in dataset.PixelSpacing]
    zoomed = np.rint(ndimage.zoom(hu, factors, order=1)).astype(np.int16)
    dataset.PixelData = zoomed.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.Rows, dataset.Columns = zoomed.shape
    dataset.PixelSpacing = [target, target]
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


if __name__ == "__main__":
    main(*sys.argv[1:])
