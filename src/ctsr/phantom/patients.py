"""The patients of the synthetic exam set and the acquisitions of each."""

from dataclasses import dataclass, replace

from pydicom.uid import ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from ctsr.phantom.body import BodyPlan, PixelGrid
from ctsr.phantom.scanner import Scanner
from ctsr.phantom.trunk import TorsoBuild
from ctsr.volume import Vector


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
    """The patient of a number from 1; beyond the table its rows repeat, 3 % smaller each time."""
    round_, index = divmod(number - 1, len(PATIENTS))
    base = PATIENTS[index]
    shrink = 0.97**round_
    x, y, z = base.plan.scale
    return replace(base, number=number, plan=replace(base.plan, scale=(x * shrink, y * shrink, z * shrink)))
