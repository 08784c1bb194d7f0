"""The patients of the synthetic exam set: their acquisitions and bodies, rendered as HU on any axial plane."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from pydicom.uid import ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from ctsr.hu import AIR
from ctsr.phantom.organs import IMPLANT, PHASES
from ctsr.phantom.rendering import AxialPlane, BodyTextures, Canvas, Image, RandomField, Scanner, coverage
from ctsr.phantom.trunk import LEVEL_STEP, Skeleton, TorsoBuild, layers, outlines, paint_trunk
from ctsr.phantom.viscera import Trees, paint_abdomen, paint_lungs, paint_mediastinum
from ctsr.volume import Vector

_ROD_X, _ROD_Y, _ROD_RADIUS = 21.0, 106.0, 4.5
_TABLE_HALF_WIDTH = 205.0
# Depth below the table's surface (from, to; mm) and HU: foam, then the carbon shells around it.
_TABLE = ((0.0, 26.0, -960.0), (0.0, 2.0, 10.0), (24.0, 26.0, -60.0))


@dataclass(frozen=True)
class PixelGrid:
    """The square pixel grid of an axial image in the body's coordinates, mm.

    `left` and `top` are the centre of the first pixel; `matrix` is the number of rows and columns.
    """

    left: float
    top: float
    spacing: float
    matrix: int

    def coordinates(self) -> tuple[Image, Image]:
        """The x of every column, shape (1, matrix), and y of every row, shape (matrix, 1), mm."""
        steps = np.arange(self.matrix, dtype=np.float32) * np.float32(self.spacing)
        return (np.float32(self.left) + steps)[None, :], (np.float32(self.top) + steps)[:, None]


@dataclass(frozen=True)
class Acquisition:
    """One reconstructed series."""

    kernel: str
    spacing: float
    """mm between pixel centres."""
    matrix: int
    thickness: float
    """mm."""
    step: float
    """mm from slice to slice."""

    def grid(self) -> PixelGrid:
        """The pixel grid, centred on the body's axis, 8 mm behind the heart."""
        half = (self.matrix - 1) / 2 * self.spacing
        return PixelGrid(-half, 8 - half, self.spacing, self.matrix)

    def heights(self, focus: float, slices: int) -> tuple[float, ...]:
        """Ascending z of every slice around `focus`, mm."""
        return tuple(focus + (i - (slices - 1) / 2) * self.step for i in range(slices))


@dataclass(frozen=True)
class BodyPlan:
    """Parameters of a body."""

    scale: Vector
    """Size along x, y, z relative to the reference body."""
    build: TorsoBuild
    phase: str
    """Contrast phase: a key of `organs.PHASES`."""
    bone: float
    """Mean HU of trabecular bone."""
    implant_levels: tuple[int, ...] = ()
    """Vertebrae with pedicle screws and rods, counted upwards from the one behind the heart."""


@dataclass(frozen=True)
class Patient:
    """A synthetic patient."""

    number: int
    sex: str
    age: int
    size: float
    """m."""
    weight: float
    """kg."""
    plan: BodyPlan
    region: str
    """BodyPartExamined."""
    focus: float
    """Height of the scan's centre in the reference body, mm."""
    isocentre: Vector
    """Position of the reference body's origin in the patient coordinate system of the images, mm."""
    scanner: Scanner
    acquisitions: tuple[Acquisition, ...]
    localizer: bool = False

    @property
    def patient_id(self) -> str:
        """PatientID and folder name."""
        return f"SYN-{self.number:03d}"


PATIENTS = (
    Patient(
        number=1,
        sex="M",
        age=61,
        size=1.78,
        weight=82,
        plan=BodyPlan((1.0, 1.0, 1.0), TorsoBuild(15, 0), "arterial", 175),
        region="CHEST",
        focus=14,
        isocentre=(0.0, 0.0, -148.5),
        scanner=Scanner("Aurora 64", 120, 240, 11, signed=True, rescale_intercept=-1024, padding=-2000),
        acquisitions=(Acquisition("STANDARD", 0.703125, 512, 2.5, 2.5),),
        localizer=True,
    ),
    Patient(
        number=2,
        sex="F",
        age=47,
        size=1.64,
        weight=63,
        plan=BodyPlan((0.88, 0.9, 0.92), TorsoBuild(17, 24), "portal", 210),
        region="CHEST",
        focus=-22,
        isocentre=(2.5, -6.0, 1012.25),
        scanner=Scanner(
            "Borealis 16",
            110,
            180,
            11,
            signed=False,
            rescale_intercept=-1024,
            padding=0,
            padding_tag=False,
            bits_stored=12,
            transfer_syntax=ImplicitVRLittleEndian,
        ),
        acquisitions=(Acquisition("B30f", 0.8203125, 384, 3.0, 2.5),),
    ),
    Patient(
        number=3,
        sex="M",
        age=72,
        size=1.71,
        weight=70,
        plan=BodyPlan((0.97, 0.94, 0.98), TorsoBuild(9, 0), "pulmonary", 130),
        region="CHEST",
        focus=46,
        isocentre=(0.0, 12.0, -95.0),
        scanner=Scanner(
            "Cirrus Spiral",
            120,
            300,
            9,
            signed=True,
            rescale_intercept=0,
            padding=-3024,
            transfer_syntax=RLELossless,
        ),
        acquisitions=(Acquisition("STANDARD", 0.78125, 448, 1.25, 1.25), Acquisition("LUNG", 0.78125, 448, 1.25, 1.25)),
    ),
    Patient(
        number=4,
        sex="F",
        age=68,
        size=1.6,
        weight=74,
        plan=BodyPlan((0.95, 0.98, 0.94), TorsoBuild(21, 20), "portal", 140, implant_levels=(-4, -3)),
        region="ABDOMEN",
        focus=-88,
        isocentre=(-3.0, 4.0, 40.0),
        scanner=Scanner("Aurora 64", 140, 320, 12, signed=True, rescale_intercept=0, padding=-2000),
        acquisitions=(Acquisition("SOFT", 0.9765625, 384, 5.0, 5.0),),
    ),
    Patient(
        number=5,
        sex="M",
        age=19,
        size=1.58,
        weight=46,
        plan=BodyPlan((0.76, 0.76, 0.8), TorsoBuild(7, 0), "arterial", 260),
        region="CHEST",
        focus=4,
        isocentre=(0.0, -2.0, -60.0),
        scanner=Scanner(
            "Duna 128",
            80,
            150,
            12,
            signed=False,
            rescale_intercept=-1024,
            padding=0,
            bits_stored=16,
            transfer_syntax=JPEGLSLossless,
        ),
        acquisitions=(Acquisition("B40s", 0.55078125, 512, 1.5, 1.5),),
    ),
    Patient(
        number=6,
        sex="M",
        age=55,
        size=1.83,
        weight=112,
        plan=BodyPlan((1.06, 1.12, 1.04), TorsoBuild(27, 6), "native", 170),
        region="ABDOMEN",
        focus=-74,
        isocentre=(6.0, 9.0, -310.0),
        scanner=Scanner("Etesia One", 130, 260, 14, signed=True, rescale_intercept=0, padding=-1024),
        acquisitions=(Acquisition("FC18", 0.9765625, 448, 3.0, 3.0),),
    ),
    Patient(
        number=7,
        sex="F",
        age=34,
        size=1.69,
        weight=58,
        plan=BodyPlan((0.87, 0.86, 0.95), TorsoBuild(12, 16), "arterial", 240),
        region="CHEST",
        focus=30,
        isocentre=(0.0, 0.0, 220.0),
        scanner=Scanner(
            "Borealis 16",
            100,
            200,
            10,
            signed=False,
            rescale_intercept=-1024,
            padding=0,
            padding_tag=False,
            bits_stored=12,
        ),
        acquisitions=(Acquisition("B", 0.859375, 384, 2.0, 2.0),),
    ),
    Patient(
        number=8,
        sex="F",
        age=79,
        size=1.57,
        weight=66,
        plan=BodyPlan((0.92, 0.95, 0.9), TorsoBuild(18, 18), "portal", 105),
        region="ABDOMEN",
        focus=-56,
        isocentre=(1.0, 3.0, -505.5),
        scanner=Scanner("Cirrus Spiral", 120, 280, 10, signed=True, rescale_intercept=-1024, padding=-2000),
        acquisitions=(Acquisition("STANDARD", 0.9, 384, 2.5, 2.5),),
    ),
)


def patient(number: int) -> Patient:
    """The patient with a number from 1; beyond the table its rows repeat, 3 % smaller each time."""
    round_, index = divmod(number - 1, len(PATIENTS))
    base = PATIENTS[index]
    shrink = 0.97**round_
    x, y, z = base.plan.scale
    return replace(base, number=number, plan=replace(base.plan, scale=(x * shrink, y * shrink, z * shrink)))


@dataclass(frozen=True)
class Insert:
    """A capsule of one HU, its axis along z, at an exact position: a nodule, lesion, rod or tissue probe."""

    name: str
    position: Vector
    """mm in the body's coordinates."""
    radius: float
    hu: float
    half_height: float = 0.0
    """Half the length of its axis, mm; 0 for a sphere."""


@dataclass(frozen=True, eq=False)
class _Warp:
    """A smooth deformation of each axial plane by a few mm, so that outlines are not ellipses."""

    along_x: RandomField
    along_y: RandomField
    reach: float = 1.6

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Warp":
        return cls(RandomField.draw(rng, (110, 240), waves=4), RandomField.draw(rng, (110, 240), waves=4))

    def apply(self, x: Image, y: Image, z: float) -> tuple[Image, Image]:
        x, y = np.broadcast_arrays(x, y)
        reach = np.float32(self.reach)
        return x + reach * self.along_x(x, y, z), y + reach * self.along_y(x, y, z)


class Body:
    """A body that can be rendered at any height; the same plan and seed give the same body."""

    def __init__(self, plan: BodyPlan, seed: int) -> None:
        self.plan = plan
        rng = np.random.default_rng(seed)
        self._phase = PHASES[plan.phase]
        self._warp = _Warp.draw(rng)
        self._skeleton = Skeleton.draw(rng, plan.bone)
        self._textures = BodyTextures.draw(rng)
        self._trees = Trees.grow(rng, plan.build)

    def plane(self, grid: PixelGrid, z: float) -> AxialPlane:
        """The plane at the body's height `z` mm, in the coordinates of the reference body."""
        sx, sy, sz = self.plan.scale
        x, y = grid.coordinates()
        bent_x, bent_y = self._warp.apply(x / np.float32(sx), y / np.float32(sy), z / sz)
        return AxialPlane(
            bent_x, bent_y, z / sz, (grid.left / sx, grid.top / sy), (grid.spacing / sx, grid.spacing / sy)
        )

    def place(self, reference: Vector) -> Vector:
        """Position in this body, mm, of a point of the reference body."""
        x, y, z = reference
        for _ in range(30):  # fixed-point iteration inverts the deformation
            bent_x, bent_y = self._warp.apply(np.array([[x]], np.float32), np.array([[y]], np.float32), z)
            x, y = x + reference[0] - float(bent_x[0, 0]), y + reference[1] - float(bent_y[0, 0])
        sx, sy, sz = self.plan.scale
        return x * sx, y * sy, z * sz

    @cached_property
    def implants(self) -> tuple[Insert, ...]:
        """The two rods that connect the screws; empty without an implant."""
        if not self.plan.implant_levels:
            return ()
        low, high = min(self.plan.implant_levels) * LEVEL_STEP, max(self.plan.implant_levels) * LEVEL_STEP
        radius, half = _ROD_RADIUS * min(self.plan.scale), ((high - low) / 2 + 10) * self.plan.scale[2]
        return tuple(
            Insert(name, self.place((x, _ROD_Y, (low + high) / 2)), radius, IMPLANT, half)
            for name, x in (("right spinal rod", -_ROD_X), ("left spinal rod", _ROD_X))
        )

    @cached_property
    def back(self) -> float:
        """Largest y of the skin behind heart and liver, mm: the table lies below it."""
        grid = PixelGrid(-200, -200, 2, 220)
        rows = [
            np.nonzero((outlines(self.plane(grid, z), self.plan.build)[2] < 0).any(axis=1))[0][-1] for z in (0, -80)
        ]
        return grid.top + grid.spacing * float(max(rows))

    def render(self, grid: PixelGrid, z: float, inserts: tuple[Insert, ...] = ()) -> Image:
        """HU of an infinitely thin plane at height `z` mm, anti-aliased; `inserts` are painted last.

        Returns:
            ``(matrix, matrix)``, float32.
        """
        plane = self.plane(grid, z)
        canvas = Canvas(plane, np.full(plane.x.shape, AIR, dtype=np.float32))
        surfaces = layers(plane, self.plan.build)
        paint_trunk(canvas, surfaces, self._textures, self.plan.build)
        paint_lungs(canvas, surfaces, self._textures, self._trees, self._phase)
        paint_abdomen(canvas, surfaces, self._textures, self._trees, self._phase)
        paint_mediastinum(canvas, self._phase)
        self._skeleton.paint_on(canvas, surfaces)
        self._paint_screws(canvas)
        _paint_table(canvas.hu, grid, self.back)
        for insert in (*self.implants, *inserts):
            _paint_insert(canvas.hu, grid, z, insert)
        return canvas.hu

    def _paint_screws(self, canvas: Canvas) -> None:
        """Paint screws from the rods through the pedicles into the vertebral bodies."""
        for level in self.plan.implant_levels:
            z = level * LEVEL_STEP + 3.5
            for side in (-1, 1):
                head, neck, tip = (side * _ROD_X, _ROD_Y, z, 3.6), (side * 13, 84, z, 3.1), (side * 6, 57, z, 2.6)
                path = np.array([[*head, *neck], [*neck, *tip]])
                canvas.paint_tube(path, IMPLANT)


def _paint_table(hu: Image, grid: PixelGrid, back: float) -> None:
    """Paint the concave table top, only where there is air."""
    x, y = grid.coordinates()
    depth = y - np.float32(back + 4) + x * x * np.float32(1 / 1300)
    beside = np.abs(x) - np.float32(_TABLE_HALF_WIDTH)
    for low, high, value in _TABLE:
        band = np.maximum(np.abs(depth - np.float32((low + high) / 2)) - np.float32((high - low) / 2), beside)
        np.maximum(hu, coverage(band, grid.spacing) * np.float32(value + 1000) - 1000, out=hu)


def _paint_insert(hu: Image, grid: PixelGrid, z: float, insert: Insert) -> None:
    """Paint a capsule at its exact position: inserts are not deformed."""
    rise = max(abs(z - insert.position[2]) - insert.half_height, 0.0)
    if rise > insert.radius + 1:
        return
    x, y = grid.coordinates()
    dx, dy = x - np.float32(insert.position[0]), y - np.float32(insert.position[1])
    distance = np.sqrt(dx * dx + dy * dy + np.float32(rise * rise)) - np.float32(insert.radius)
    hu += coverage(distance, grid.spacing) * (np.float32(insert.hu) - hu)
