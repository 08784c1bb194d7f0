"""What upscaling can be told. The command line shows these fields as flags, their docstrings as help."""

import re
from dataclasses import dataclass
from typing import Literal

import psutil

from ctsr.dicom.compress import Compression
from ctsr.errors import UsageError
from ctsr.hu import HUOptions

DEFAULT_MODEL = "ctsr-x2"
"""The model in plane where none is named."""
SLICES = re.compile(r"(-?\d*):(-?\d*)")


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions(HUOptions):
    """Everything about an upscaling but the model and where it runs."""

    series: str | None = None
    """Only the series with this SeriesInstanceUID."""
    only: str | None = None
    """Only series whose description, patient or folder fits this pattern: "chest*"; case does not matter."""
    slices: str | None = None
    """Only slices a:b of each series, counted from 0 along its normal, the last not included."""
    target_spacing: float | None = None
    """mm between pixels of the result, reached from the network's grid by resampling; the network's when left out."""
    slice_spacing: float | None = None
    """mm between slices of the result: makes the slices between slices that are thicker or farther apart. In plane
    nothing changes unless a model in plane is named as well."""
    isotropic: float | None = None
    """mm between slices and between pixels of the result: `slice_spacing` and `target_spacing` in one."""
    slice_profile: str | None = None
    """Thickness of the source's slices in mm, and after a comma the standard deviation of its blur, such as 5 or
    5,0.6; what the headers say when left out."""
    uncertainty: bool = False
    """With slice_spacing or isotropic: write uncertainty.nii.gz as well, by how many HU the answers in coronal and in
    sagittal planes differ in each voxel."""
    strength: Literal["faithful", "standard", "strong"] = "standard"
    """How much a conditional model changes: faithful adds pixels only, standard removes the noise measured in the
    series, strong also sharpens."""
    denoise: float | None = None
    """Instead of the strength's: 0 to 1, where 1 tells the model 1.5 times the measured noise; 0.67 is all of it."""
    sharpen: float | None = None
    """Instead of the strength's: 0 to 1, where 1 tells the model a blur of 1.1 pixels of the result (σ; 2.0 at ×4)."""
    limit_noise: bool = True
    """Mix in interpolation where the result would be noisier than its source: one share for a series."""
    consistent: bool = False
    """Give back what the mean of the result over each source pixel lacks: agreement with the source, noise included."""
    format: Literal["dicom", "nifti"] | None = None
    """Of the result; that of the source when left out."""
    skip_air: bool = True
    """Interpolate the air around the body instead of inferring it."""
    max_memory: float | None = None
    """GiB that a network may take; larger slices are cut into tiles. Half of what is free when left out."""
    compress: Compression = "none"
    """Compress DICOM results without loss; jpegls is smallest, rle is read everywhere."""
    enhanced: bool = False
    """Write each DICOM result as one enhanced (multi-frame) file instead of a file a slice."""
    anonymize: bool = False
    """Take from the results what tells who the patient is, after DICOM PS3.15 Annex E's basic profile; implies
    `names=False`."""
    names: bool = True
    """Write names of patients and folders into run.json, pictures and names of result folders; else hashes."""
    picture: bool = True
    """Draw preview.png beside the result: the middle slice before and after."""
    overwrite: bool = False
    """Replace results that are there already."""

    def __post_init__(self) -> None:
        if self.slices is not None and not SLICES.fullmatch(self.slices):
            raise UsageError(f"`slices` {self.slices}: expected a:b, such as 10:20 or :5")
        if self.target_spacing is not None and not 0.05 <= self.target_spacing <= 50:
            raise UsageError(f"`target_spacing` must lie between 0.05 and 50 mm, got {self.target_spacing:g}")
        if self.slice_spacing is not None and not 0.1 <= self.slice_spacing <= 50:
            raise UsageError(f"`slice_spacing` must lie between 0.1 and 50 mm, got {self.slice_spacing:g}")
        if self.isotropic is not None:
            if self.slice_spacing is not None or self.target_spacing is not None:
                raise UsageError("`isotropic` is `slice_spacing` and `target_spacing` in one; leave those out")
            if not 0.1 <= self.isotropic <= 50:
                raise UsageError(f"`isotropic` must lie between 0.1 and 50 mm, got {self.isotropic:g}")
        if self.slice_profile is not None and self.wanted_slice_spacing is None:
            raise UsageError("`slice_profile` goes with `slice_spacing` or `isotropic`")
        if self.uncertainty and self.wanted_slice_spacing is None:
            raise UsageError("`uncertainty` goes with `slice_spacing` or `isotropic`")
        for name, value in (("denoise", self.denoise), ("sharpen", self.sharpen)):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"`{name}` must lie between 0 and 1, got {value:g}")
        if self.format == "nifti" and self.compress != "none":
            raise UsageError("`compress` is for DICOM; call a NIfTI result .nii.gz to have it compressed")
        if self.format == "nifti" and self.enhanced:
            raise UsageError("`enhanced` is for DICOM, and a NIfTI result is one file already")
        if self.max_memory is not None and not self.max_memory > 0:
            raise UsageError(f"`max_memory` must be above 0 GiB, got {self.max_memory:g}")

    @property
    def shows_names(self) -> bool:
        """Whether patients and folders are called by their names."""
        return self.names and not self.anonymize

    @property
    def wanted_slice_spacing(self) -> float | None:
        """Mm between slices; None where slices stay where they are."""
        return self.slice_spacing if self.isotropic is None else self.isotropic

    @property
    def wanted_pixel_spacing(self) -> float | None:
        """Mm between pixels; None for those of the network's grid."""
        return self.target_spacing if self.isotropic is None else self.isotropic

    @property
    def memory_bytes(self) -> float:
        """`max_memory`, or half of what is free now."""
        return psutil.virtual_memory().available / 2 if self.max_memory is None else self.max_memory * 2**30

    @property
    def wanted(self) -> slice:
        """`slices` as Python takes it; all when left out."""
        match = SLICES.fullmatch(self.slices or ":")
        assert match is not None, "checked when it was made"
        start, stop = match.group(1), match.group(2)
        return slice(_bound(start), _bound(stop))


def _bound(text: str) -> int | None:
    return None if text in {"", "-"} else int(text)
