"""NRRD and MetaImage, read by SimpleITK where it is installed, and what that would get wrong refused."""

import math
import re
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from ctsr.errors import ReadError
from ctsr.reporting import one_line, size
from ctsr.series import NRRD

AGAIN = "copy or convert it again"
NO_SIMPLEITK = "NRRD and MetaImage are read by SimpleITK: pip install '.[volumes]' in the source folder of ctsr"
TEXT_HEADER_BYTES = 2**16
LARGEST_VOXEL_BYTES = 8
ANATOMICAL_SPACES = frozenset(
    {"left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las"}
)
"""Of NRRD, that SimpleITK turns into LPS."""

Affine = npt.NDArray[np.float64]


def has_simpleitk() -> bool:
    """Whether the package that reads them is installed."""
    return find_spec("SimpleITK") is not None


def read_by_simpleitk(path: Path) -> tuple[npt.NDArray[Any], Affine]:
    """The voxels of NRRD or MetaImage, the axis first that varies fastest, and their affine in LPS and mm.

    Raises:
        ReadError: it is damaged, no volume, says not where its voxels lie, or names another file that holds them.
    """
    import SimpleITK as sitk  # noqa: N813  (its own documentation's name)

    is_nrrd = path.suffix.lower() in NRRD
    with path.open("rb") as file:
        _check_text_header(file.read(TEXT_HEADER_BYTES).decode("latin-1"), is_nrrd=is_nrrd)
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
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return voxels.T, affine


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


def _check_text_header(text: str, *, is_nrrd: bool) -> None:
    """Refuse what SimpleITK would complete by guesses or from other files.

    Raises:
        ReadError: the header gives no orientation, or its voxels lie in another file.
    """
    header = re.split(r"\r?\n\r?\n", text)[0] if is_nrrd else text.split("ElementDataFile", 1)[0]
    names = {line.split(":" if is_nrrd else "=", 1)[0].strip().lower() for line in header.splitlines()}
    data = re.search(r"^ElementDataFile *= *(\S+) *\r?$", text, re.MULTILINE)
    if names & {"data file", "datafile"} or (not is_nrrd and (data is None or data[1].upper() != "LOCAL")):
        raise ReadError("its voxels lie in another file: save it as one .nrrd or .mha")
    if not is_nrrd and re.findall(r"^\W*NDims\W*=\s*(.*?)\s*$", header, re.MULTILINE | re.IGNORECASE) != ["3"]:
        raise ReadError("not one volume of numbers: its header has no line `NDims = 3`")  # others end the process
    space = re.search(r"^space: *(.+?) *$", header, re.MULTILINE)
    is_known = space is not None and space[1].lower() in ANATOMICAL_SPACES if is_nrrd else True
    places = {"space directions"} if is_nrrd else {"transformmatrix", "rotation", "orientation"}
    if not is_known or not names & places:
        raise ReadError("the header gives no orientation")
