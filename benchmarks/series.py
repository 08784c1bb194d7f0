"""`python -m benchmarks.series FOLDER COUNT SIDE`: write a series of so many slices, in a process of its own."""

import sys
from pathlib import Path

import numpy as np

from ctsr.dicom.encode import slice_header
from ctsr.dicom.write import Derivation, derive_slice, save_slice
from ctsr.exams import scan
from ctsr.phantom import make_exams
from ctsr.volume import Plane


def main(folder: Path, count: int, side: int) -> None:
    """Noise on tissue; the headers are those of a synthetic exam, moved along the patient's axis."""
    make_exams(folder.with_name(folder.name + "-exams"), patients=1, slices=1, workers=1)
    series = next(iter(scan(folder.with_name(folder.name + "-exams")).all_series()))
    header, plane = slice_header(series.slices[0]), series.plane(0)
    derivation = Derivation(description="made", label="made", settings="made", series_uid="2.25.1")
    for i in range(count):
        hu = np.random.default_rng(i).normal(40, 30, (side, side)).astype(np.float32)
        place = Plane((side, side), plane.spacing, (*plane.origin[:2], plane.origin[2] + i), plane.directions)
        # An instance of its own in every file, as its frame's number would be.
        save_slice(derive_slice(header, hu, place, derivation, instance_number=i + 1, frame=i), folder / f"{i}.dcm")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
