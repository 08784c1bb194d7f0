"""NRRD and MetaImage, read by SimpleITK where it is installed, and what that would get wrong refused."""

import math
import re
import zlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from ctsr.errors import ReadError
from ctsr.reporting import one_line, size
from ctsr.series import NRRD
from ctsr.volume import Affine

AGAIN = "copy or convert it again"
NO_SIMPLEITK = "NRRD and MetaImage are read by SimpleITK: pip install '.[volumes]' in the source folder of ctsr"
TEXT_HEADER_BYTES = 2**16
LARGEST_VOXEL_BYTES = 8
ANATOMICAL_SPACES = frozenset(
    {"left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las"}
)
"""Of NRRD, that SimpleITK turns into LPS."""

SPACINGS, ORIGINS = frozenset({"elementspacing", "elementsize"}), ("offset", "position", "origin")
"""Names that MetaImage has for distances and for the place of the first voxel."""
MM = {"mm": 1.0, "millimeter": 1.0, "cm": 10.0, "centimeter": 10.0, "m": 1000.0, "meter": 1000.0} | dict.fromkeys(
    ("um", "µm", "micron", "micrometer"), 1e-3
)
"""Millimetres in a unit of length."""
UNIT_WITHIN = 1e-2


def has_simpleitk() -> bool:
    """Whether the package that reads them is installed."""
    return find_spec("SimpleITK") is not None


def read_by_simpleitk(path: Path) -> tuple[npt.NDArray[Any], Affine, str]:
    """The voxels of NRRD or MetaImage, the axis first that varies fastest; their affine in LPS and mm; a doubt of it.

    Raises:
        ReadError: it is damaged, no volume, says not where its voxels lie, or names another file that holds them.
    """
    import SimpleITK as sitk  # noqa: N813  (its own documentation's name)

    is_nrrd = path.suffix.lower() in NRRD
    with path.open("rb") as file:
        text = file.read(TEXT_HEADER_BYTES).decode("latin-1")
    header = _text_header(text, is_nrrd=is_nrrd)
    _check_text_header(text, header, is_nrrd=is_nrrd)
    unit = _unit(header, is_nrrd=is_nrrd)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if is_nrrd else "MetaImageIO")  # and not whatever its content looks like
    try:
        reader.ReadImageInformation()
        if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
            raise ReadError(f"not one volume of numbers: {reader.GetDimension()} axes of {reader.GetSize()}")
        promised = math.prod(reader.GetSize()) * LARGEST_VOXEL_BYTES
        if promised > psutil.virtual_memory().available / 2:
            raise ReadError(f"it may take {size(promised)}, more than half of the memory that is free")
        image = reader.Execute()
    except RuntimeError as error:
        words = str(error).strip().splitlines()
        raise ReadError(f"it cannot be read: {one_line(words[-1] if words else error)}") from error
    voxels = sitk.GetArrayFromImage(image)
    if not is_nrrd:
        _check_meta_image(path, voxels)
    # Of the columns of the direction matrix, the first belongs to the index that varies fastest.
    directions = np.array(image.GetDirection()).reshape(3, 3)
    lengths = np.linalg.norm(directions, axis=0)
    if np.ptp(lengths) < UNIT_WITHIN < abs(lengths[0] - 1):  # others are sheared, which is said of all formats
        raise ReadError("its TransformMatrix is not made of unit vectors")
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(image.GetSpacing()) * unit
    affine[:3, 3] = np.array(image.GetOrigin()) * unit
    return voxels.T, affine, _doubt(header, is_nrrd=is_nrrd)


def _text_header(text: str, *, is_nrrd: bool) -> dict[str, str]:
    """Names, in small letters, and values of a header's lines."""
    end = re.split(r"\r?\n\r?\n", text)[0] if is_nrrd else text.split("ElementDataFile", 1)[0]
    parts = [line.partition(":" if is_nrrd else "=") for line in end.splitlines()]
    return {name.strip().lower(): value.lstrip("=").strip() for name, _, value in parts}


def _unit(header: Mapping[str, str], *, is_nrrd: bool) -> float:
    """Millimetres in the header's unit of length, which SimpleITK takes for mm whatever it is.

    Raises:
        ReadError: it is none, or differs between axes.
    """
    words = header.get("space units" if is_nrrd else "distanceunits", "")
    units = {word.strip().lower() for word in (re.findall('"(.*?)"', words) if is_nrrd else [words])} - {"", "?"}
    found = {MM[unit] for unit in units if unit in MM}
    if len(found) > 1 or units - MM.keys():
        raise ReadError(f"its unit of length is {words}: convert it to mm")
    return found.pop() if found else 1.0


def _doubt(header: Mapping[str, str], *, is_nrrd: bool) -> str:
    """What the header does not say about where the volume lies; empty where it says all."""
    origin = header.get("space origin", "nan") if is_nrrd else " ".join(map(header.get, ORIGINS, [""] * len(ORIGINS)))
    if re.search(r"\d", origin) and "nan" not in origin.lower():
        return ""
    return "its header does not say where its first voxel lies; 0, 0, 0 is taken"


def _check_meta_image(path: Path, voxels: npt.NDArray[Any]) -> None:
    """Compare a MetaImage's voxels with its bytes: SimpleITK makes whatever is in memory of damaged ones.

    Raises:
        ReadError: they are not what the file holds.
    """
    header, _, rest = path.read_bytes().partition(b"ElementDataFile")
    content = rest.partition(b"\n")[2]
    flags = dict(re.findall(rb"^(\w+) *= *(\w)", header.upper(), re.MULTILINE))
    if flags.get(b"COMPRESSEDDATA") in {b"T", b"1"}:
        content = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(content, voxels.nbytes + 1)
    is_big = {flags.get(name) for name in (b"BINARYDATABYTEORDERMSB", b"ELEMENTBYTEORDERMSB")} & {b"T", b"1"}
    if voxels.astype(voxels.dtype.newbyteorder(">" if is_big else "<")).tobytes() != content[: voxels.nbytes]:
        raise ReadError(f"its voxels are damaged, or no binary numbers as its header promises: {AGAIN}")


def _check_text_header(text: str, header: Mapping[str, str], *, is_nrrd: bool) -> None:
    """Refuse what SimpleITK would complete by guesses or from other files.

    Raises:
        ReadError: the header gives no orientation or spacing, its values are to be scaled, or its voxels lie in another
            file.
    """
    data = re.search(r"^ElementDataFile *= *(\S+) *\r?$", text, re.MULTILINE)
    if header.keys() & {"data file", "datafile"} or (not is_nrrd and (data is None or data[1].upper() != "LOCAL")):
        raise ReadError("its voxels lie in another file: save it as one .nrrd or .mha")
    beginning = text.split("ElementDataFile", 1)[0]
    if not is_nrrd and re.findall(r"^\W*NDims\W*=\s*(.*?)\s*$", beginning, re.MULTILINE | re.IGNORECASE) != ["3"]:
        raise ReadError("not one volume of numbers: its header has no line `NDims = 3`")  # others end the process
    is_known = header.get("space", "").lower() in ANATOMICAL_SPACES if is_nrrd else True
    places = {"space directions"} if is_nrrd else {"transformmatrix", "rotation", "orientation"}
    if not is_known or not header.keys() & places:
        raise ReadError("the header gives no orientation")
    if not is_nrrd and not header.keys() & SPACINGS:
        raise ReadError("the header gives no ElementSpacing")
    scaling = [
        header.get(f"elementtointensityfunction{name}", usual) for name, usual in (("slope", "1"), ("offset", "0"))
    ]
    if not is_nrrd and [_number(value) for value in scaling] != [1, 0]:
        raise ReadError(
            f"its values are to be scaled (ElementToIntensityFunction {' and '.join(scaling)}), which few programs do: "
            "save HU as they are"
        )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
