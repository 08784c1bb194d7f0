"""Known HU in known places: what was put into a synthetic body, and where it is in its images."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctsr.demo import organs
from ctsr.demo.body import Body, Plug
from ctsr.demo.organs import FAT, MUSCLE, PHASES
from ctsr.demo.patients import Acquisition, Patient
from ctsr.demo.scanner import KERNELS
from ctsr.demo.shapes import Image, Plane
from ctsr.demo.torso import TorsoBuild, outlines
from ctsr.demo.trees import liver_points, lung_points
from ctsr.files import write_json
from ctsr.hu import AIR
from ctsr.volume import Vector

__all__ = ["ExamTruth", "Landmark", "landmarks", "plugs", "read_truth", "write_truth"]

_NODULES = ((7.0, 45.0), (4.5, 60.0), (8.5, -620.0), (3.4, 280.0), (5.5, 30.0))
"""Radius in mm and HU: solid ones, one of ground glass, one calcified."""

_LESIONS = ((9.0, -42.0), (6.5, -28.0), (7.5, 34.0))
"""Radius in mm and HU relative to the liver."""


@dataclass(frozen=True)
class Landmark:
    """A capsule of one HU in a series."""

    name: str
    position: Vector
    """Centre, mm, LPS, as the series' ImagePositionPatient counts."""
    radius: float
    """mm."""
    hu: float
    inner_radius: float
    """Within this distance of the position, mm, the pixels of the nearest slice hold `hu` apart from noise."""


@dataclass(frozen=True)
class ExamTruth:
    """What is known of one written series."""

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
        """The landmark called `name`.

        Raises:
            KeyError: this series shows none of that name.
        """
        return {landmark.name: landmark for landmark in self.landmarks}[name]


def plugs(body: Body, patient: Patient, low: float, high: float, rng: np.random.Generator) -> tuple[Plug, ...]:
    """Probes of plain tissue, nodules and lesions in the body between two heights, mm."""
    placed = [*_probes(body, patient, low, high)]
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
                math.dist(position, other.position) > radius + other.radius + other.half_height + 3 for other in placed
            ):
                placed.append(Plug(f"{name} {index + 1}", position, radius, hu))
                break
    return tuple(placed)


def _probes(body: Body, patient: Patient, low: float, high: float) -> list[Plug]:
    """Upright capsules of plain tissue around the middle of the scan, so that slices of any thickness hold them."""
    middle = (low + high) / 2 / body.plan.scale[2]
    half = 1.5 * max(a.thickness for a in patient.acquisitions)
    phase = PHASES[body.plan.phase]
    aorta = organs.VESSELS[[vessel.name for vessel in organs.VESSELS].index("aorta")].path
    descending = aorta[aorta[:, 1] > 36]
    ax, ay = (float(np.interp(-middle, -descending[:, 2], descending[:, k])) for k in (0, 1))
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
    return [Plug(name, body.place(at), radius * size, hu, half) for name, at, radius, hu in rows]


def _middle_of_fat(build: TorsoBuild, z: float) -> tuple[Vector, float] | None:
    """The middle and the half-thickness, less the skin and a margin, of the fat at the left flank; None where lean."""
    reach = np.arange(60, 260, 0.5, dtype=np.float32)[None, :]
    x, y = reach * np.float32(0.82), reach * np.float32(0.57)
    _, wall, skin = outlines(Plane(x, y, z, (0, 0), (0.5, 0.5)), build)
    inside = (wall > 0) & (skin < -2)
    ray: Image = reach[inside]
    radius = (float(ray[-1]) - float(ray[0])) / 2 * 0.8 if ray.size else 0.0
    middle = float(ray.mean()) if ray.size else 0.0
    return ((middle * 0.82, middle * 0.57, z), min(radius, 7.0)) if radius > 3.5 else None


def landmarks(
    patient: Patient, acquisition: Acquisition, heights: tuple[float, ...], placed: tuple[Plug, ...]
) -> tuple[Landmark, ...]:
    """Those plugs that a series shows with a homogeneous middle of a few pixels, in its coordinates."""
    shown: list[Landmark] = []
    margin = KERNELS[acquisition.kernel].reach + acquisition.spacing / 2
    for plug in placed:
        nearest = min(abs(plug.position[2] - z) for z in heights)
        rise = max(nearest + acquisition.thickness / 2 - plug.half_height, 0.0)
        inner = math.sqrt(max(plug.radius**2 - rise**2, 0.0)) - margin
        if inner > 1.2 * acquisition.spacing:
            x, y, z = (a + b for a, b in zip(plug.position, patient.isocentre, strict=True))
            shown.append(Landmark(plug.name, (x, y, z), plug.radius, plug.hu, inner))
    return tuple(shown)


def write_truth(path: Path, exams: tuple[ExamTruth, ...]) -> None:
    """All that is known, as JSON; paths relative to the file's folder."""
    rows = [{**asdict(exam), "path": exam.path.relative_to(path.parent).as_posix()} for exam in exams]
    write_json(path, rows)


def read_truth(path: Path) -> tuple[ExamTruth, ...]:
    """What `write_truth` wrote; paths below the file's folder."""
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return tuple(_exam(row, path.parent) for row in rows)


def _exam(row: dict[str, Any], folder: Path) -> ExamTruth:
    """One row of the file, JSON's lists and strings made tuples and paths again."""
    marks = tuple(_landmark(mark) for mark in row["landmarks"])
    fields: dict[str, Any] = {**row, "path": folder / row["path"], "spacing": tuple(row["spacing"]), "landmarks": marks}
    return ExamTruth(**fields)


def _landmark(row: dict[str, Any]) -> Landmark:
    fields: dict[str, Any] = {**row, "position": tuple(row["position"])}
    return Landmark(**fields)
