"""Records what ctsr computes from real CT as hashes and values, to compare one version of the code with another.

    CTSR_REAL_CT=ct python tests/golden/record_behaviour.py record before.json
    CTSR_REAL_CT=ct python tests/golden/record_behaviour.py record after.json
    python tests/golden/record_behaviour.py compare before.json after.json

The record holds LR (every mode and sampling), SR of the bundled models by each engine, DICOM elements and bytes, the
rows and the summary of an evaluation, a split, and the files of a short training. Dates and times are left out. Nearly
everything is run through the command line, so that the script does not depend on module names; LR alone is computed in
Python. `record … --only lr split` records some parts alone.
"""

import argparse
import csv
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

SLICES = 6
"""Consecutive slices of each patient, from the middle of the series."""
UPSCALED = ("CMB-CRC-MSB-01068", "LIDC-IDRI-0001")
"""Patients of whom two slices are upscaled: a sharp kernel with values above the range, and, by the first model only,
padding of -2048."""
MODELS = ("ctsr-x2", "ctsr-x4")
SPLIT = Path(__file__).parents[2] / "recipes" / "split.json"
VOLATILE = {"DA", "TM", "DT"}

Record = dict[str, Any]


def record(ct: Path, out: Path, parts: Sequence[str]) -> None:
    """Record these parts into a file, which keeps the others that it holds."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("cache", "home", "work"):
            (place / name).mkdir()
        root = _small_root(ct / "patients", place / "exams")
        os.environ["XDG_CACHE_HOME"] = str(place / "cache")
        os.environ["HOME"] = str(place / "home")
        os.chdir(place / "work")
        _write_split(root, Path("split.json"))
        for part in parts:
            found = json.loads(out.read_text()) if out.is_file() else {}
            out.write_text(json.dumps(found | {part: PARTS[part](root)}, indent=1))


def _write_split(root: Path, out: Path) -> None:
    """The split of the bundled models, of the patients that are in the root."""
    document = json.loads(SPLIT.read_text())
    present = {path.name for path in root.iterdir()}
    for name, members in document["splits"].items():
        document["splits"][name] = [member for member in members if member["patient_id"] in present]
    out.write_text(json.dumps(document))


def _small_root(patients: Path, root: Path) -> Path:
    """A few slices of each patient, under names that tell their order."""
    for patient in sorted(path for path in patients.iterdir() if path.is_dir()):
        files = [path for path in patient.rglob("*") if path.is_file()]
        heights: dict[Path, float] = {}
        for file in files:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["ImagePositionPatient"])
            heights[file] = float(header.ImagePositionPatient[2])
        ordered = sorted(files, key=lambda file: heights[file])
        start = (len(ordered) - SLICES) // 2
        (root / patient.name).mkdir(parents=True)
        for number, file in enumerate(ordered[start : start + SLICES]):
            shutil.copy(file, root / patient.name / f"{number}.dcm")
    return root


def _ctsr(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "ctsr", *map(str, arguments)], check=True)


def _lr(root: Path) -> Record:
    """Slice → mode, sampling and scale → LR."""
    from ctsr.data.hu_cache import open_series
    from ctsr.data.pairs import slice_pair
    from ctsr.degrade import Degradation, DegradationSampler
    from ctsr.exams import scan

    samplers = {
        f"{mode} {sampling} x{scale}": DegradationSampler(Degradation(mode=mode, scale=scale), sampling)
        for mode in ("clean", "blur", "blurnoise")
        for sampling in ("volume", "slice", "det-slice")
        for scale in (2, 4)
    }
    found: Record = {}
    for patient in scan(root).patients:
        stored = open_series(patient.series[0], Path("store"))
        for index in (0, len(stored) - 1):
            pairs = {name: slice_pair(stored, index, sampler) for name, sampler in samplers.items()}
            found[f"{patient.patient_id} {index}"] = {
                name: _image(pair.lr.numpy()) | {"params": str(pair.draw)} for name, pair in pairs.items()
            }
    return found


def _image(values: Any) -> Record:
    """A hash of all values, and some of them, so that a difference has a size."""
    values = np.ascontiguousarray(values)
    flat = values.reshape(-1)
    places = np.linspace(0, flat.size - 1, 25).astype(int)
    return {
        "sha256": _sha(values.tobytes()),
        "shape": list(values.shape),
        "mean": float(values.mean(dtype=np.float64)),
        "values": [float(value) for value in flat[places]],
    }


def _upscaled(root: Path) -> Record:
    """Model, engine and patient → DICOM files of two slices."""
    found: Record = {}
    for model in MODELS:
        for engine in ("torch", "openvino"):
            for patient in UPSCALED if model == MODELS[0] else UPSCALED[:1]:
                out = Path(f"upscaled-{model}-{engine}-{patient}")
                _ctsr("upscale", root / patient, out, "--model_path", model, "--engine", engine, "--slices", "0:2")
                found[f"{model} {engine} {patient}"] = _dicom_files(out)
    return found


def _preprocessed(root: Path) -> Record:
    _ctsr("preprocess", "--root", root, "--out_dir", "preprocessed")
    return _dicom_files(Path("preprocessed")) | {"files": _names(Path("preprocessed"))}


def _dicom_files(folder: Path) -> Record:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and _is_dicom(file))
    return {file.relative_to(folder).as_posix(): _dicom(file) for file in files}


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(132)[128:] == b"DICM"


def _dicom(file: Path) -> Record:
    dataset = pydicom.dcmread(file)
    pixels = dataset.pixel_array
    elements = {str(element.tag): _sha(repr(element).encode())[:12] for element in _lasting(dataset)}
    return {
        "bytes": _sha(_without_times(file.read_bytes(), dataset)),
        "pixels": _image(pixels),
        "elements": elements,
    }


def _lasting(dataset: pydicom.Dataset) -> Iterator[pydicom.DataElement]:
    """Elements of the file and its meta information but pixels and what was written about today."""
    for part in (dataset.file_meta, dataset):
        for element in part:
            fresh = element.VR in VOLATILE and (element.VR == "TM" or _is_of_today(str(element.value)))
            if not fresh and element.keyword != "PixelData" and element.VR != "SQ":
                yield element


def _is_of_today(value: str) -> bool:
    return value.startswith(datetime.now().astimezone().strftime("%Y%m%d"))


def _without_times(content: bytes, dataset: pydicom.Dataset) -> bytes:
    """The file with zeros in place of every date of today and every time of day."""
    for element in dataset.iterall():
        if element.VR in VOLATILE and (element.VR == "TM" or _is_of_today(str(element.value))):
            text = str(element.value).encode()
            if len(text) >= 6:
                content = content.replace(text, b"0" * len(text))
    return content


def _evaluated(root: Path) -> Record:
    """Rows, summary and files of one evaluation of each scale."""
    found: Record = {}
    for model in ("ctsr-x2", "ctsr-x4"):
        out = Path(f"evaluated-{model}")
        _ctsr(
            *("evaluate", "--model_path", model, "--root", root, "--split", "test", "--split_json", SPLIT),
            *("--engine", "torch", "--max_slices_per_patient", 2, "--metrics", "all", "--mask", "none", "body"),
            *("--windows", "global", "soft_tissue", "--baselines", "bilinear", "bicubic", "lanczos"),
            *("--study_slices", 1, "--output_dir", out, "--device", "cpu"),
            *(("--hallucination", "--physics") if model == MODELS[0] else ()),
        )
        (result,) = (path for path in out.iterdir() if path.is_dir())
        tables = {file.name: _rows(file) for file in sorted(result.rglob("*.csv"))}
        summaries = {file.name: _document(file) for file in sorted(result.rglob("*.json"))}
        found[model] = {"folder": _undated(result.name), "files": _names(result), "csv": tables, "json": summaries}
    return found


def _rows(file: Path) -> list[list[str | float]]:
    with file.open(newline="") as opened:
        return [[_cell(cell) for cell in row] for row in csv.reader(opened)]


def _cell(cell: str) -> str | float:
    try:
        return float(cell)
    except ValueError:
        return _undated(cell)


def _document(file: Path) -> Any:
    document = json.loads(_undated(file.read_text()))
    if isinstance(document, dict):
        for key in ("seconds", "timing", "versions"):
            document.pop(key, None)
    return document


def _split(root: Path) -> Record:
    _ctsr("split", "--root", root, "--out_dir", "splits")
    (file,) = Path("splits").iterdir()
    document = json.loads(file.read_text())
    return {"file": file.name, "splits": document["splits"]}


def _trained(root: Path) -> Record:
    """Files and columns of the run folder, the losses and the weights of one epoch on the CPU."""
    _ctsr(
        *("train", "--data_root", root, "--epochs", 1, "--nf", 4, "--nb", 1, "--gc", 2, "--batch_size", 4),
        *("--patch_size", 64, "--num_workers", 0, "--split_json", "split.json", "--device", "cpu"),
    )
    (run,) = Path("runs").iterdir()
    weights = {file.name: _weights(file) for file in sorted(run.rglob("*.pth"))}
    tables = {file.name: _rows(file) for file in sorted(run.rglob("*.csv"))}
    return {"folder": _undated(run.name), "files": _names(run), "csv": tables, "weights": weights}


def _weights(file: Path) -> Record:
    import torch

    state = torch.load(file, map_location="cpu", weights_only=False)
    tensors = dict(_tensors(state))
    return {
        "keys": sorted(map(str, state)),
        "tensors": {name: _sha(t.numpy().tobytes())[:12] for name, t in tensors.items()},
    }


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value.detach().contiguous()
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _tensors(part, f"{name}/{key}")


def _names(folder: Path) -> list[str]:
    return sorted(_undated(file.relative_to(folder).as_posix()) for file in folder.rglob("*") if file.is_file())


def _undated(text: str) -> str:
    """Without times of day, dates of now and temporary folders."""
    text = re.sub(r"20\d{6}-\d{6}", "DATE", text)
    text = re.sub(r"20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?([+-]\d\d:\d\d|Z)?", "DATE", text)
    return re.sub(r"/[^\s\",]*/tmp[a-z0-9_]+", "TMP", re.sub(r"events\.out[^\s\",]*", "events", text))


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


PARTS: dict[str, Callable[[Path], Record]] = {
    "lr": _lr,
    "preprocess": _preprocessed,
    "split": _split,
    "train": _trained,
    "evaluate": _evaluated,
    "upscale": _upscaled,
}


def differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """A line for each value that is not the same, or is in one record only."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            place = f"{where} › {key}" if where else key
            if key not in after:
                yield f"{place}: gone"
            elif key not in before:
                yield f"{place}: new"
            else:
                yield from differences(before[key], after[key], place)
    elif isinstance(before, Sequence) and isinstance(after, Sequence) and not isinstance(before, str):
        if len(before) != len(after):
            yield f"{where}: {len(before)} → {len(after)} entries"
        for number, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from differences(one, other, f"{where}[{number}]")
    elif not _equal(before, after):
        size = f" (by {after - before:.3g})" if isinstance(before, float) and isinstance(after, float) else ""
        yield f"{where}: {before!r} → {after!r}{size}"


def _equal(before: Any, after: Any) -> bool:
    if isinstance(before, float) and isinstance(after, float) and math.isnan(before) and math.isnan(after):
        return True
    return type(before) is type(after) and before == after


def main() -> int:
    """Exit status: 1 where a comparison found a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("out", type=Path)
    recording.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "record":
        record(Path(os.environ["CTSR_REAL_CT"]).absolute(), arguments.out.absolute(), arguments.only)
        return 0
    before, after = json.loads(arguments.before.read_text()), json.loads(arguments.after.read_text())
    lines = list(differences(before, after))
    print("\n".join(lines) if lines else "no difference")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
