"""Series on disk: find them, read one as a volume, write a volume as a series."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.charset import convert_encodings

from ctsr import __version__, exams
from ctsr.api import given
from ctsr.dicom.encode import WrittenIdentity, slice_header, to_stored, verify_slice
from ctsr.dicom.write import Derivation, check_one_series, derive_slice, save_slice
from ctsr.errors import DomainError, UsageError
from ctsr.files import atomic_folder
from ctsr.hashing import derived_uid
from ctsr.padding import plane_of, slice_of
from ctsr.paths import check_apart
from ctsr.reporting import UNSEEN, WARN, Progress
from ctsr.series import NOT_FOR_DIAGNOSIS, PROGRAM, Inventory, Series, check, is_nifti, is_volume, volume_words
from ctsr.series_quality import read_judged_volume
from ctsr.upscale import SAME_PLACE
from ctsr.volume import Plane, Volume, normal

SLICE_FILE = re.compile(r"\d{4,}\.dcm")
"""Names of the files of a written series: a folder with other files is never replaced."""
MOST_DESCRIPTION, MOST_LABEL = 900, 16
"""Characters of DerivationDescription beside the version of ctsr, and of SeriesDescription beside the source's own."""


def scan(source: str | os.PathLike[str], *, progress: Progress = WARN) -> Inventory:
    """Find the CT series in a folder, with what is wrong with them; no pixels are decoded.

    Args:
        source: a folder with one folder for each patient, a patient's folder, a series, or a NIfTI file.
        progress: told how many patients are done.

    Returns:
        Patients and their series in order; what was left out, each with its reason.

    Raises:
        MissingInputError: no such file or folder.

    Examples:
        >>> for series in ctsr.scan("EXAMS").all_series():
        ...     print(series.patient_id, len(series.slices), series.pixel_spacing, series.defects)
    """
    return exams.scan(Path(source), progress=progress)


def read_volume(
    source: Series | str | os.PathLike[str],
    *,
    series: str | None = None,
    assume_hu: bool = False,
    allow_gaps: bool = False,
    progress: Progress = WARN,
) -> Volume:
    """Read a series as a block of voxels in HU on an even grid in mm.

    Args:
        source: a series of `ctsr.scan`, a folder that holds one series, or a NIfTI file.
        series: SeriesInstanceUID, where the folder holds several series.
        assume_hu: take stored values for HU where a header gives no rescale.
        allow_gaps: leave room for missing slices and mark them as padding.
        progress: told of defects, and of single slices whose values are unlike those beside them; left out, each is a
            Python warning.

    Returns:
        HU as float32, axes (slice, row, column), first slice lowest along the normal; `grid` in mm; `padding` is True
        where the scanner reconstructed nothing, and HU are −1000 there.

    Raises:
        MissingInputError: there is no such path, or no usable CT series in it.
        UsageError: it holds several series, and `series` names none of them.
        SeriesError: a defect that a block cannot have (gaps, duplicates, uneven steps, tilt).
        ReadError: a slice cannot be decoded.

    Examples:
        >>> volume = ctsr.read_volume("EXAMS/patient1/series3")
        >>> volume.hu.shape, volume.grid.spacing
        ((120, 512, 512), (1.25, 0.7, 0.7))
    """
    found = source if isinstance(source, Series) else exams.only_series(Path(source), series)
    for warning in check(found, "volume", assume_hu=assume_hu, allow_gaps=allow_gaps):
        progress.note(f"warning: {warning}")
    return read_judged_volume(found, "volume", progress, assume_hu=assume_hu, allow_gaps=allow_gaps)


def write_series(
    volume: Volume,
    out: str | os.PathLike[str],
    *,
    like: Series | str | os.PathLike[str] | None = None,
    description: str = "Computed from the source series",
    label: str = "[ctsr]",
    overwrite: bool = False,
) -> Path:
    """Write a volume as a DICOM series that is derived from another one, or as NIfTI.

    The new series belongs to the source's patient, study and frame of reference, has UIDs of its own and names its
    source images. Every file is read again and compared before the folder gets its name. HU are rounded to integers.

    Args:
        volume: the slices of the source, where they are, in its order or the other way round; rows, columns and spacing
            may differ. ``dataclasses.replace(volume, hu=…)`` keeps the place of a volume that was read.
        out: folder for DICOM, which is created; or a file with the ending ``.nii`` or ``.nii.gz``.
        like: the source: a series of `ctsr.scan`, or a folder that holds one. DICOM needs it, NIfTI does not.
        description: what was done, for DerivationDescription, which says "Not for diagnosis" before it of what a
            network made.
        label: at most 16 characters, at the end of SeriesDescription.
        overwrite: replace a folder or file that is there.

    Returns:
        `out`.

    Raises:
        UsageError: `out` exists or has the ending of another format, DICOM is to be written without `like`, or a text
            that DICOM cannot hold.
        DomainError: the volume has other slices than the source or lies elsewhere, or holds NaN or values that rounding
            to whole HU leaves nothing of.
        ReadError: the source's header cannot be carried over, or a file does not hold what was meant.

    Examples:
        >>> volume = ctsr.read_volume(series)
        >>> smoothed = dataclasses.replace(volume, hu=scipy.ndimage.gaussian_filter(volume.hu, (0, 1, 1)))
        >>> ctsr.write_series(smoothed, "smoothed", like=series, description="Gaussian, 1 pixel", label="[smooth]")
    """
    target = Path(out)
    if target.exists() and not overwrite:
        raise UsageError(f"{target} already exists; pass `overwrite=True` to replace it, or choose another `out`")
    given(volume, None, needs_spacing=False).volume.check_roundable()
    if is_nifti(target):
        if target.is_dir():
            raise UsageError(f"{target} is a folder; choose another `out`")
        _write_nifti(volume, target)
        return target
    if is_volume(target):
        raise UsageError(f"{target}: of volumes, NIfTI is written; choose a name that ends in .nii.gz, or a folder")
    if like is None:
        raise UsageError(
            "DICOM needs `like`, the series whose patient and study the result belongs to; "
            "without one, choose a name that ends in .nii.gz"
        )
    source = like if isinstance(like, Series) else exams.only_series(Path(like), None)
    order = _order(volume, source)
    _check_place(volume, source, order)
    _check_texts(description, label, slice_header(source.slices[0]))
    check_apart(source.path, target)
    if target.is_dir() and not all(SLICE_FILE.fullmatch(path.name) for path in target.iterdir()):
        raise UsageError(f"{target} holds other files than a written series; choose another `out`")
    with atomic_folder(target, replace=overwrite) as folder:
        _write_slices(volume, source, order, folder, description, label)
    return target


def _order(volume: Volume, source: Series) -> range:
    """The source's slice for each of the volume: one that was read from NIfTI begins below, however its source goes.

    Raises:
        UsageError: the source is no DICOM.
        DomainError: it has another number of slices.
    """
    if source.is_volume:
        raise UsageError(f"{source.path} has no patient or study: it is a volume; choose a name that ends in .nii.gz")
    if len(source.slices) != volume.grid.shape[0]:
        raise DomainError(f"the volume has {volume.grid.shape[0]} slices, `like` has {len(source.slices)}")
    order = range(len(source.slices))
    return order[::-1] if np.dot(normal(source.orientation), volume.grid.directions[0]) < 0 else order


def _check_place(volume: Volume, source: Series, order: range) -> None:
    """Refuse a volume whose slices are not where those of the source are: headers would put it into another body."""
    axis = np.array(normal(source.orientation))
    shape, tolerance = volume.grid.shape, SAME_PLACE * (source.slice_step or volume.grid.spacing[0])
    for index, place in enumerate(order):
        own = volume.grid.position((index, (shape[1] - 1) / 2, (shape[2] - 1) / 2))
        other = source.plane(place).position((source.rows - 1) / 2, (source.columns - 1) / 2)
        apart = np.array(own) - np.array(other)
        along = float(apart @ axis)
        if abs(along) > tolerance:
            raise DomainError(
                f"slice {index} of the volume lies {along:+.4g} mm from that of `like`: another series or order; "
                "`dataclasses.replace(volume, hu=…)` keeps the place of a volume that was read"
            )
        fields = [np.multiply(each.shape, each.spacing).max() for each in (plane_of(volume), source.plane(place))]
        aside = float(np.linalg.norm(apart - along * axis))
        if aside > sum(fields) / 2:
            raise DomainError(
                f"slice {index} of the volume lies {aside:.4g} mm beside that of `like`: is that another patient?"
            )


def _check_texts(description: str, label: str, header: Dataset) -> None:
    """Refuse words that would not be read again as they are."""
    stated = header.get("SpecificCharacterSet") or ""
    for name, text, most in (("description", description, MOST_DESCRIPTION), ("label", label, MOST_LABEL)):
        if len(text) > most:
            raise UsageError(f"`{name}` has {len(text)} characters; {most} have room")
        if UNSEEN.search(text) or "\\" in text:
            raise UsageError(f"`{name}` {text!r} holds a backslash or a control character, which DICOM cannot keep")
        try:
            # Without a character set DICOM has ASCII alone, where pydicom writes Latin-1.
            text.encode(convert_encodings(stated)[0] if stated else "ascii")
        except UnicodeEncodeError as error:
            raise UsageError(
                f"`{name}` holds {text[error.start]!r}, which the character set of `like` ({stated or 'ASCII'}) lacks"
            ) from error


def _write_slices(volume: Volume, source: Series, order: range, folder: Path, description: str, label: str) -> None:
    # The same voxels and words give the same UIDs, on every machine.
    voxels = hashlib.sha256(volume.hu.tobytes())
    voxels.update(b"" if volume.padding is None else volume.padding.tobytes())
    settings = f"write_series {voxels.hexdigest()} {volume.grid!r} {description!r} {label!r}"
    derivation = Derivation(
        description=f"{f'{NOT_FOR_DIAGNOSIS}. ' if volume.made_by else ''}{description}; ctsr {__version__}",
        label=label,
        settings=settings,
        series_uid=derived_uid(source.study_uid, source.series_uid, repr(source.geometry_key), settings),
        model_name=volume.made_by or PROGRAM,
    )
    first = plane_of(volume)
    digits = max(4, len(str(len(source.slices))))
    written: list[WrittenIdentity] = []
    for index, place in enumerate(order):
        pixels, header = slice_of(volume, index), source.slices[place]
        plane = Plane(first.shape, first.spacing, volume.grid.position((index, 0, 0)), first.directions)
        derived = derive_slice(
            slice_header(header),
            pixels.hu,
            plane,
            derivation,
            padding=pixels.padding,
            instance_number=source.instance_numbers[place],
            frame=header.frame,
            slice_step=source.slice_step,
        )
        path = folder / f"{index + 1:0{digits}d}.dcm"
        save_slice(derived, path)
        written.append(verify_slice(path, pixels.hu, pixels.padding, plane))
    paths = (header.path for header in source.slices)
    check_one_series(source.path, written, paths, series_uid=derivation.series_uid)


def _write_nifti(volume: Volume, path: Path) -> None:
    # NIfTI takes a fifth of a second to import, and most series are DICOM.
    from ctsr.nifti import save_volume

    stored = to_stored(volume.hu, volume.padding)
    words = volume_words("[SR]") if volume.made_by else ""
    save_volume(path, stored.values, volume.grid, slope=stored.slope, intercept=stored.intercept, description=words)
