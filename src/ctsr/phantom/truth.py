"""Ground truth: inserts of known HU in a synthetic body, and their positions in its images."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctsr.files import write_json
from ctsr.hu import AIR
from ctsr.phantom import organs
from ctsr.phantom.organs import FAT, MUSCLE, PHASES
from ctsr.phantom.patients import Acquisition, Body, Insert, Patient
from ctsr.phantom.rendering import KERNELS, AxialPlane, Image
from ctsr.phantom.trunk import TorsoBuild, outlines
from ctsr.phantom.viscera import liver_points, lung_points
from ctsr.volume import Vector

_NODULES = ((7.0, 45.0), (4.5, 60.0), (8.5, -620.0), (3.4, 280.0), (5.5, 30.0))
"""Radius in mm and HU: three solid nodules, one ground-glass, one calcified."""

_LESIONS = ((9.0, -42.0), (6.5, -28.0), (7.5, 34.0))
"""Radius in mm and HU relative to the liver."""


@dataclass(frozen=True)
class Landmark:
    """A capsule of known HU in a series."""

    name: str
    position: Vector
    """Centre in the patient coordinate system (LPS), mm."""
    radius: float
    """mm."""
    hu: float
    inner_radius: float
    """Radius in mm within which pixels of the nearest slice have the value `hu`, apart from noise."""


@dataclass(frozen=True)
class ExamTruth:
    """Ground truth of one written series."""

    patient_id: str
    path: Path
    """The series' folder."""
    series_uid: str
    spacing: tuple[float, float, float]
    """mm between slices, rows, columns."""
    kernel: str
    padding_hu: float
    landmarks: tuple[Landmark, ...]

    def landmark(self, name: str) -> Landmark:
        """The landmark of a name.

        Raises:
            KeyError: the series shows no landmark of that name.
        """
        return {landmark.name: landmark for landmark in self.landmarks}[name]


def place_inserts(
    body: Body, patient: Patient, low: float, high: float, rng: np.random.Generator
) -> tuple[Insert, ...]:
    """Tissue probes, nodules and lesions in a body between two heights, mm."""
    inserts = [*_probes(body, patient, low, high)]
    depth = 12.0
    lungs = np.vstack([lung_points(rng, body.plan.build, side, 4000, depth) for side in (-1, 1)])
    lungs = lungs[rng.permutation(len(lungs))]
    liver = liver_points(rng, body.plan.build, 4000, 18)
    liver = liver[np.hypot(liver[:, 0] + 22, liver[:, 1] - 18) > 30]  # clear of the inferior vena cava
    hepatic = PHASES[body.plan.phase].liver
    kinds = [("lung nodule", lungs, radius, hu) for radius, hu in _NODULES]
    kinds += [("liver lesion", liver, radius, hepatic + hu) for radius, hu in _LESIONS]
    for index, (name, points, radius, hu) in enumerate(kinds):
        heights = points[:, 2] * body.plan.scale[2]
        for x, y, z in points[(heights > low + radius / 2) & (heights < high - radius / 2)]:
            position = body.place((float(x), float(y), float(z)))
            if all(
                math.dist(position, other.position) > radius + other.radius + other.half_height + 3 for other in inserts
            ):
                inserts.append(Insert(f"{name} {index + 1}", position, radius, hu))
                break
    return tuple(inserts)


def _probes(body: Body, patient: Patient, low: float, high: float) -> list[Insert]:
    """Capsules of homogeneous tissue around the centre of the scan, long enough for slices of any thickness."""
    middle = (low + high) / 2 / body.plan.scale[2]
    half = 1.5 * max(a.thickness for a in patient.acquisitions)
    phase = PHASES[body.plan.phase]
    aorta = organs.VESSELS[[vessel.name for vessel in organs.VESSELS].index("aorta")].path
    descending = aorta[aorta[:, 1] > 36]
    # Heights descend along the path; np.interp needs them ascending.
    ax = float(np.interp(-middle, -descending[:, 2], descending[:, 0]))
    ay = float(np.interp(-middle, -descending[:, 2], descending[:, 1]))
    rows: list[tuple[str, Vector, float, float]] = [
        ("muscle", (37.0, 106.0, middle), 7, MUSCLE),
        ("aorta", (ax, ay, middle), 8, phase.arteries),
    ]
    fat = _middle_of_fat(body.plan.build, middle)
    if fat is not None:
        rows.append(("fat", fat[0], fat[1], FAT))
    if -25 < middle < 12:
        rows.append(("left ventricle", (46.0, -27.0, middle), 8, phase.arteries))
    if middle > 66:
        rows.append(("trachea", (1.0, 12.0, middle), 6.5, AIR))
    if -120 < middle < -62:
        rows += [("spleen", (96.0, 30.0, middle), 8, phase.spleen), ("liver", (-84.0, 14.0, middle), 10, phase.liver)]
    size = min(body.plan.scale)
    return [Insert(name, body.place(at), radius * size, hu, half) for name, at, radius, hu in rows]


def _middle_of_fat(build: TorsoBuild, z: float) -> tuple[Vector, float] | None:
    """Centre and usable radius of the fat layer at the left flank; None if it is too thin."""
    reach = np.arange(60, 260, 0.5, dtype=np.float32)[None, :]
    x, y = reach * np.float32(0.82), reach * np.float32(0.57)
    _, wall, skin = outlines(AxialPlane(x, y, z, (0, 0), (0.5, 0.5)), build)
    inside = (wall > 0) & (skin < -2)
    ray: Image = reach[inside]
    radius = (float(ray[-1]) - float(ray[0])) / 2 * 0.8 if ray.size else 0.0
    middle = float(ray.mean()) if ray.size else 0.0
    return ((middle * 0.82, middle * 0.57, z), min(radius, 7.0)) if radius > 3.5 else None


def find_landmarks(
    patient: Patient, acquisition: Acquisition, heights: tuple[float, ...], inserts: tuple[Insert, ...]
) -> tuple[Landmark, ...]:
    """The inserts that a series shows with a homogeneous centre of several pixels, in its coordinates."""
    shown: list[Landmark] = []
    margin = KERNELS[acquisition.kernel].reach + acquisition.spacing / 2
    for insert in inserts:
        nearest = min(abs(insert.position[2] - z) for z in heights)
        rise = max(nearest + acquisition.thickness / 2 - insert.half_height, 0.0)
        inner = math.sqrt(max(insert.radius**2 - rise**2, 0.0)) - margin
        if inner > 1.2 * acquisition.spacing:
            (x, y, z), (x0, y0, z0) = insert.position, patient.isocentre
            shown.append(Landmark(insert.name, (x + x0, y + y0, z + z0), insert.radius, insert.hu, inner))
    return tuple(shown)


def write_truth(path: Path, exams: tuple[ExamTruth, ...]) -> None:
    """Write ground truth as JSON; paths are relative to the file's folder."""
    rows = [{**asdict(exam), "path": exam.path.relative_to(path.parent).as_posix()} for exam in exams]
    write_json(path, rows)


def read_truth(path: Path) -> tuple[ExamTruth, ...]:
    """Read what `write_truth` wrote."""
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return tuple(_exam(row, path.parent) for row in rows)


def _exam(row: dict[str, Any], folder: Path) -> ExamTruth:
    """One row of the file as `ExamTruth`."""
    marks = tuple(_landmark(mark) for mark in row["landmarks"])
    fields: dict[str, Any] = {**row, "path": folder / row["path"], "spacing": tuple(row["spacing"]), "landmarks": marks}
    return ExamTruth(**fields)


def _landmark(row: dict[str, Any]) -> Landmark:
    fields: dict[str, Any] = {**row, "position": tuple(row["position"])}
    return Landmark(**fields)
