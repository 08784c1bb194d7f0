"""The organs of the reference body: tables of ellipsoids and tubes in mm, with the tissue of each.

x grows to the patient's left, y to the back, z to the head; z = 0 lies in the middle of the heart.
"""

from dataclasses import dataclass

from ctsr.hu import AIR
from ctsr.phantom.rendering import Canvas, Ellipsoid, Image, Segments, tube

FAT = -104.0
MUSCLE = 58.0
IMPLANT = 3000.0
"""HU of titanium in a 16-bit image: above the range that models are trained on."""


@dataclass(frozen=True)
class ContrastPhase:
    """HU of contrast-enhanced tissues in one phase after the injection."""

    arteries: float
    lung_arteries: float
    veins: float
    portal: float
    myocardium: float
    liver: float
    spleen: float
    cortex: float
    """Renal cortex."""
    medulla: float

    def of(self, tissue: str) -> float:
        """HU of a tissue, by its name in the tables of this module."""
        return float(getattr(self, tissue)) if tissue in self.__dataclass_fields__ else _PLAIN[tissue]


PHASES = {
    "arterial": ContrastPhase(340, 240, 170, 110, 105, 72, 140, 190, 80),
    "pulmonary": ContrastPhase(210, 390, 260, 60, 80, 58, 70, 110, 50),
    "portal": ContrastPhase(165, 150, 155, 190, 110, 112, 128, 185, 165),
    "native": ContrastPhase(42, 42, 40, 42, 48, 56, 48, 34, 32),
}

_PLAIN = {"muscle": MUSCLE, "bile": 12, "meal": 38, "gut": 62, "gland": 92, "gas": AIR}


@dataclass(frozen=True)
class Organ:
    """An ellipsoid of one tissue."""

    name: str
    solid: Ellipsoid
    tissue: str


@dataclass(frozen=True)
class Chamber:
    """A chamber of the heart: its blood and the thickness of its muscular wall in mm."""

    solid: Ellipsoid
    tissue: str
    wall: float


CHAMBERS = (
    Chamber(Ellipsoid((49, -28, -8), (31, 17, 31), -36), "arteries", 9.5),
    Chamber(Ellipsoid((12, -49, -8), (36, 13, 34), -20), "lung_arteries", 3.5),
    Chamber(Ellipsoid((-25, -24, 0), (17, 25, 33), 12), "veins", 2.5),
    Chamber(Ellipsoid((14, 13, 17), (34, 15, 21), 0), "arteries", 2.5),
)

PAPILLARY = (
    Ellipsoid((55, -19, -10), (8, 4, 12), -40),
    Ellipsoid((62, -38, -10), (7, 3.5, 12), -30),
)
"""Papillary muscles of the left ventricle."""


@dataclass(frozen=True)
class Vessel:
    """A tube with its content and the thickness of its wall in mm."""

    name: str
    path: Segments
    tissue: str
    wall: float = 1.2
    wall_tissue: str = "muscle"

    def paint_on(self, canvas: Canvas, phase: ContrastPhase, inside: Image | None = None) -> None:
        """Paint wall and lumen, clipped where the signed distance `inside` is positive."""
        if self.wall > 0:
            canvas.paint_tube(self.path, phase.of(self.wall_tissue), grow=self.wall, inside=inside)
        canvas.paint_tube(self.path, phase.of(self.tissue), inside=inside)


VESSELS = (
    Vessel("superior vena cava", tube((-27, -14, 130, 9), (-28, -16, 70, 9), (-27, -18, 28, 10)), "veins"),
    Vessel("pulmonary trunk", tube((16, -48, 18, 14), (22, -42, 34, 14), (27, -26, 46, 13)), "lung_arteries"),
    Vessel("left pulmonary artery", tube((27, -28, 46, 12), (42, -6, 52, 11), (60, 6, 44, 8)), "lung_arteries"),
    Vessel(
        "right pulmonary artery",
        tube((25, -22, 46, 11), (0, -8, 44, 11), (-32, -4, 42, 10), (-56, 0, 36, 8)),
        "lung_arteries",
    ),
    Vessel("left upper vein", tube((44, 10, 20, 6.5), (56, -2, 24, 5.5), (64, -14, 34, 4.5)), "arteries", 0.8),
    Vessel("left lower vein", tube((44, 16, 12, 6.5), (58, 22, 4, 5.5), (66, 30, -8, 4.5)), "arteries", 0.8),
    Vessel("right upper vein", tube((-16, 10, 20, 6.5), (-40, 0, 22, 5.5), (-58, -12, 30, 4.5)), "arteries", 0.8),
    Vessel("right lower vein", tube((-14, 16, 12, 6.5), (-38, 20, 6, 5.5), (-54, 30, -8, 4.5)), "arteries", 0.8),
    Vessel(
        "aorta",
        tube(
            (18, -22, 14, 13),
            (2, -28, 34, 15.5),
            (-8, -30, 54, 15.5),
            (-6, -24, 76, 14.5),
            (6, -6, 92, 13.5),
            (20, 18, 92, 13),
            (27, 38, 76, 12.5),
            (27, 45, 50, 12.2),
            (23, 46, 0, 11.6),
            (14, 44, -60, 11),
            (8, 42, -110, 10),
            (5, 40, -220, 9),
        ),
        "arteries",
        1.5,
    ),
    Vessel("brachiocephalic artery", tube((-2, -14, 92, 6), (-12, -8, 112, 5.5), (-20, -2, 140, 5)), "arteries"),
    Vessel("left carotid artery", tube((10, 0, 100, 4), (14, -2, 118, 3.8), (16, 0, 140, 3.6)), "arteries"),
    Vessel("left subclavian artery", tube((22, 16, 100, 5), (26, 14, 118, 4.6), (32, 12, 140, 4.5)), "arteries"),
    Vessel("azygos vein", tube((-10, 50, 60, 4), (-6, 50, 0, 3.6), (-7, 48, -120, 3)), "veins", 0.6),
    Vessel(
        "left anterior descending",
        tube((22, -34, 26, 2.2), (34, -56, 12, 1.9), (58, -62, -10, 1.5), (76, -56, -26, 1)),
        "arteries",
        0.5,
    ),
    Vessel(
        "right coronary artery",
        tube((-2, -42, 24, 2.1), (-16, -54, 8, 1.8), (-20, -50, -18, 1.6), (-4, -30, -38, 1.2)),
        "arteries",
        0.5,
    ),
    Vessel("circumflex artery", tube((24, -22, 26, 2), (42, -2, 14, 1.7), (58, 4, -4, 1.3)), "arteries", 0.5),
    Vessel(
        "inferior vena cava",
        tube((-22, -8, -28, 12), (-22, 12, -50, 12), (-22, 22, -100, 11.5), (-20, 30, -220, 10.5)),
        "veins",
    ),
)

INFERIOR_CAVA = VESSELS[-1]
"""Painted again after the liver, in which it runs in a groove."""

AIRWAYS = (
    Vessel("trachea", tube((0, 8, 150, 8.6), (1, 10, 100, 8.6), (2, 14, 62, 8.8)), "gas", 1.8),
    Vessel("right main bronchus", tube((0, 14, 61, 7.4), (-22, 15, 44, 6.6), (-40, 16, 28, 5.2)), "gas", 1.5),
    Vessel("left main bronchus", tube((3, 14, 61, 6.8), (28, 16, 43, 6), (46, 18, 28, 4.8)), "gas", 1.5),
    Vessel(
        "oesophagus",
        tube((4, 30, 150, 2.4), (6, 32, 60, 2), (12, 34, 0, 2.2), (22, 24, -58, 2.4), (34, 8, -74, 3)),
        "gut",
        3.2,
    ),
)

LIVER = (
    Ellipsoid((-66, -4, -92), (78, 92, 84)),
    Ellipsoid((16, -46, -74), (66, 36, 44), -14),
)

ABDOMEN = (
    Organ("spleen", Ellipsoid((98, 34, -88), (27, 52, 44), 18), "spleen"),
    Organ("stomach wall", Ellipsoid((56, -30, -92), (44, 40, 46), 24), "gut"),
    Organ("stomach", Ellipsoid((56, -30, -92), (39, 35, 41), 24), "meal"),
    Organ("splenic flexure wall", Ellipsoid((96, -34, -122), (24, 22, 30)), "gut"),
    Organ("splenic flexure", Ellipsoid((96, -34, -122), (21.5, 19.5, 27.5)), "gas"),
    Organ("left kidney", Ellipsoid((64, 58, -142), (27, 25, 54), 28), "cortex"),
    Organ("right kidney", Ellipsoid((-62, 58, -156), (27, 25, 54), -28), "cortex"),
    Organ("gallbladder wall", Ellipsoid((-42, -42, -128), (15.5, 20, 27), 20), "gut"),
    Organ("gallbladder", Ellipsoid((-42, -42, -128), (14, 18.5, 25.5), 20), "bile"),
)

STOMACH = next(organ.solid for organ in ABDOMEN if organ.name == "stomach")

KIDNEYS = tuple(organ.solid for organ in ABDOMEN if organ.name.endswith("kidney"))

ABDOMINAL_TUBES = (
    Vessel("pancreas", tube((66, 22, -104, 8), (36, 2, -108, 10), (6, -10, -114, 9), (-20, -2, -124, 12)), "gland", 0),
    Vessel(
        "splenic vein",
        tube((80, 30, -100, 3.6), (40, 12, -112, 4.4), (-2, 4, -114, 6.5), (-22, -2, -100, 6.5)),
        "portal",
        0,
    ),
    Vessel("coeliac trunk", tube((8, 34, -100, 3.8), (8, 18, -102, 3.6), (-10, 8, -104, 2.8)), "arteries", 0),
    Vessel("mesenteric artery", tube((8, 34, -116, 4), (8, 18, -124, 3.8), (8, 10, -160, 3.4)), "arteries", 0),
    Vessel("left adrenal", tube((44, 34, -112, 2.4), (38, 46, -114, 2.2), (34, 58, -116, 1.6)), "gut", 0),
    Vessel("right adrenal", tube((-32, 42, -108, 2.2), (-38, 54, -112, 2), (-42, 64, -114, 1.6)), "gut", 0),
    Vessel("left crus", tube((8, 28, -56, 5), (22, 44, -80, 5), (20, 58, -150, 6)), "muscle", 0),
    Vessel("right crus", tube((-2, 28, -56, 5), (-9, 42, -80, 5), (-16, 58, -150, 7)), "muscle", 0),
    Vessel(
        "jejunum",
        tube((40, -40, -146, 11), (66, -24, -138, 11), (92, -4, -150, 11), (60, 4, -158, 10)),
        "meal",
        2.2,
        "gut",
    ),
    Vessel(
        "transverse colon",
        tube((-70, -66, -140, 13), (-20, -74, -134, 14), (36, -72, -134, 13), (88, -50, -124, 14)),
        "gas",
        2,
        "gut",
    ),
)
