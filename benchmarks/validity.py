"""Errors and warnings of dciodvfy in sources and in what ctsr makes of them; compression ratios.

    python -m benchmarks.validity ROOT...

Of every DICOM series the middle slice is derived at twice its matrix, as `ctsr upscale` writes it but with interpolated
pixels, and judged beside its source. Exit status 1 where the result has an error or a warning that the source has not.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ctsr.dicom import quiet
from ctsr.dicom.encode import SYNTAXES, Compression, compress, slice_header
from ctsr.dicom.write import Derivation, derive_slice, save_slice
from ctsr.errors import CtsrError
from ctsr.exams import read_slice, scan
from ctsr.series import Series, is_nifti
from ctsr.volume import resample

COUNTED = re.compile(r"^(Error|Warning)")
VALUES = re.compile(r"<[^>]*>|\d+")
"""What differs between two files that have the same fault: the values in its message."""
METHODS: tuple[Compression, ...] = ("none", *SYNTAXES)


def findings(path: Path) -> Counter[str]:
    """The messages of dciodvfy on a file, values taken out."""
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False)
    lines = (done.stderr + done.stdout).splitlines()
    return Counter(VALUES.sub("#", line) for line in lines if COUNTED.match(line))


def derived_files(series: Series, folder: Path) -> Iterator[tuple[Compression, Path]]:
    """Write the middle slice of a series at twice its matrix, once by every compression."""
    index = len(series.slices) // 2
    source, plane = series.slices[index], series.plane(index)
    rows, columns = plane.shape
    fine = plane.recentred((2 * rows, 2 * columns), (plane.spacing[0] / 2, plane.spacing[1] / 2))
    pixels = read_slice(series, index, assume_hu=True)
    made = resample(pixels.hu, pixels.padding, plane, fine)
    words = Derivation(description="Resampled", label="[x2]", settings="validity", series_uid="2.25.1")
    for method in METHODS:
        derived = derive_slice(
            slice_header(source),
            made.hu.astype(np.float32),
            fine,
            words,
            padding=made.padding,
            instance_number=index + 1,
            frame=source.frame,
            slice_step=series.slice_step,
        )
        compress(derived, method)
        path = folder / f"{method}.dcm"
        save_slice(derived, path)
        yield method, path


def judge(series: Series, sizes: dict[Compression, int]) -> tuple[Counter[str], Counter[str]]:
    """Findings of the source and of the result; prints a line, and adds up file sizes."""
    with tempfile.TemporaryDirectory() as name:
        files = dict(derived_files(series, Path(name)))
        for method, path in files.items():
            sizes[method] += path.stat().st_size
        before = findings(series.slices[len(series.slices) // 2].path)
        after = findings(files["none"])
    print(f"{series.patient_id[:24]:24} {series.description[:24]:24} {_counts(before)} -> {_counts(after)}", flush=True)
    return before, after


def _counts(found: Counter[str]) -> str:
    kinds = Counter[str]()
    for message, count in found.items():
        kinds[message.split()[0].rstrip(":")] += count
    return f"{kinds['Error']} errors {kinds['Warning']} warnings"


def main(roots: list[str]) -> int:
    """Judge every series below the roots."""
    if not roots or shutil.which("dciodvfy") is None:
        print(f"{__doc__}\nNeeds a root, and dciodvfy of Debian's dicom3tools.", file=sys.stderr)
        return 2
    sizes: dict[Compression, int] = defaultdict(int)
    sources, results, new, count = Counter[str](), Counter[str](), Counter[str](), 0
    for patient in (patient for root in roots for patient in scan(Path(root)).patients):
        for series in patient.series:
            if is_nifti(series.path):
                continue
            try:
                with quiet():
                    before, after = judge(series, sizes)
                sources, results, new = sources + before, results + after, new + (after - before)
                count += 1
            except CtsrError as error:
                print(f"{series.patient_id[:24]:24} not written: {error}")
    ratios = ", ".join(f"{method} {sizes['none'] / max(1, sizes[method]):.2f}" for method in SYNTAXES)
    print(f"{count} series: {_counts(sources)} -> {_counts(results)}; new: {dict(new) or 'nothing'}")
    print(f"size plain / compressed: {ratios}")
    return int(bool(new))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
