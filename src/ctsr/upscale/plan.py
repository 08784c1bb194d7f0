"""What is to be made of which series, under which name, and what is unusual about it: known before computing."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ctsr import __version__
from ctsr.checkpoint import Model
from ctsr.checkpoint.files import PACKED
from ctsr.dicom.variants import enhanced_series_uid, size_problem
from ctsr.dicom.write import Derivation
from ctsr.errors import CtsrError, UsageError
from ctsr.files import file_state
from ctsr.hashing import derived_uid, digest
from ctsr.hu import HURange
from ctsr.infer.engine import Tiling, plan_tiles
from ctsr.paths import secret_key
from ctsr.reporting import printable, safe_name
from ctsr.series import NOT_FOR_DIAGNOSIS, Inventory, Series, SliceHeader, is_nifti
from ctsr.through_plane import SliceGrid, parse_profile, plan_slices
from ctsr.upscale import (
    Chosen,
    UpscaleOptions,
    difference,
    nearest_slice,
    patient_folders,
    result_format,
    series_name,
    shown_name,
    shown_phase,
    without_names,
)
from ctsr.volume import Plane, at_spacing

ALGORITHM = "6"
"""Counted up when the same settings give other pixels or headers, so that old results are made again."""
HASH_SHOWN = 16
"""Hexadecimal digits that name a model in a header; run.json has all of them."""
LONGEST_NAME = 64
"""Characters of VR LO."""
NOT_ASCII = re.compile(r"[^!-~]")
RUN_JSON = "run.json"
"""What stands beside a result: how it was made."""
PREVIEW = "preview.png"
"""What may stand there, too: a slice before and after."""
ENHANCED = "enhanced.dcm"
"""The one file of a result that was to be one."""
UNCERTAINTY = "uncertainty.nii.gz"
"""And a volume: what coronal and sagittal planes disagree about."""
SMALLEST_RESULT = 8
"""Pixels along a side: what is smaller is taken for no slice by ctsr itself."""
HEADER_BYTES = 16_384
"""Room a header may take, when disk space is reckoned with."""


@dataclass(frozen=True)
class ModelName:
    """What derived images say of the model that made them."""

    experiment: str
    sha256: str
    scale: int
    hu_range: HURange

    @classmethod
    def of(cls, model: Model) -> "ModelName":
        """The name of a loaded network: its experiment's, or the file's where it was made to be passed on."""
        passed_on = model.path.suffix == PACKED
        name = model.meta.experiment if model.meta and not passed_on else model.path.stem
        # Not every source's character set has every letter, and some headers name none.
        return cls(NOT_ASCII.sub("_", safe_name(name)), model.sha256, model.scale, model.hu_range)

    @property
    def label(self) -> str:
        """For ManufacturerModelName: `rrdb_x2_blurnoise sha256:0123456789abcdef`."""
        mark = f" sha256:{self.sha256[:HASH_SHOWN]}"
        return self.experiment[: LONGEST_NAME - len(mark)] + mark


@dataclass(frozen=True)
class Between:
    """The slices that are made between those of a series."""

    grid: SliceGrid
    model: ModelName
    engine: str
    """`Engine.name`."""
    notes: tuple[str, ...]
    """A line for each thing that had to be assumed."""

    @property
    def settings(self) -> str:
        """Everything that these slices depend on besides those of the source."""
        profile = self.grid.profile
        lengths = (self.grid.spacing, self.grid.distance, profile.thickness, profile.softness)
        return f"between {lengths!r} {self.model.sha256} {self.engine}"

    @property
    def words(self) -> str:
        """For headers: what was done."""
        grid = self.grid
        return (
            f"Super-resolution between slices from {grid.profile.width:.4g} mm slices {grid.distance:.4g} mm apart "
            f"to {grid.spacing:.4g} mm by the network {self.model.label} ({self.engine})"
        )


@dataclass(frozen=True, kw_only=True)
class Job:
    """One series to be made finer; small and picklable."""

    series: Series
    """The source, cut down to the slices that were asked for."""
    output: Path
    """The folder of the result, or the file of a NIfTI result that was named."""
    format: Literal["dicom", "nifti"]
    model: ModelName
    engine: str
    """`Engine.name`."""
    tiling: Tiling | None
    """How slices are cut for the network; None for whole slices."""
    options: UpscaleOptions
    between: Between | None = None
    """Slices between slices, where those are made."""
    refused: str = ""
    """Why these cannot be made; empty where they can or are not wanted."""
    reference: Series | None = None
    """Lends its headers to a NIfTI volume that becomes DICOM."""
    secret: str = field(default="", repr=False)
    """Key of the hashes that take the place of names and UIDs where `anonymize` is set."""

    @property
    def patient(self) -> str:
        """Who it is, as pictures and run.json say it."""
        return shown_name(self.series.patient_id, self.options, self.secret)

    def shown(self, message: str) -> str:
        """A message as run.json says it: the source's folder, and its files, may bear a patient's name."""
        message = message if self.options.shows_names else without_names(message, self.series, self.patient)
        return shown_phase(message, self.options)

    @property
    def is_in_plane(self) -> bool:
        """Whether slices are made finer by a network."""
        return self.model.scale > 1

    @property
    def highest_hu(self) -> float:
        """HU above which a network is not asked: of two, the lower."""
        ranges = [self.model.hu_range, *(() if self.between is None else (self.between.model.hu_range,))]
        return min(hu_range.high for hu_range in ranges)

    @property
    def num_slices(self) -> int:
        """Slices of the result."""
        return len(self.series.slices) if self.between is None else self.between.grid.num_wanted

    @property
    def is_enhanced(self) -> bool:
        """Whether the result is one DICOM file."""
        return self.options.enhanced and self.format == "dicom"

    @property
    def num_files(self) -> int:
        """That hold the pixels of the result."""
        return self.num_slices if self.format == "dicom" and not self.is_enhanced else 1

    def files_in(self, folder: Path) -> dict[str, int]:
        """How many files in `folder` the pixels of the result are in, and how large these are together."""
        found = folder.glob("*.dcm") if self.format == "dicom" else (folder / name for name in (self.volume_name,))
        sizes = [path.stat().st_size for path in found if path.is_file()]
        return {"count": len(sizes), "bytes": sum(sizes)}

    @property
    def is_file(self) -> bool:
        """Whether `output` is a file rather than a folder."""
        return is_nifti(self.output)

    @property
    def record(self) -> Path:
        """Its run.json: in the folder, or beside the file."""
        return self.beside(RUN_JSON)

    def beside(self, name: str) -> Path:
        """Where a file about the result lies: in the folder, or beside the file under its name."""
        return self.output.with_name(f"{self.output.name}.{name}") if self.is_file else self.output / name

    @property
    def volume_name(self) -> str:
        """What a NIfTI result is called."""
        if self.is_file:
            return self.output.name
        return f"{safe_name(shown_name(series_name(self.series), self.options, self.secret))}.nii.gz"

    @property
    def num_bytes(self) -> int:
        """About what the result takes on the disk, at most: one file is made of the slices' files."""
        rows, columns = self.plane(0).shape
        return self.num_slices * (2 * rows * columns + HEADER_BYTES) * (2 if self.is_enhanced else 1)

    @property
    def settings(self) -> str:
        """Everything the pixels depend on besides the source, as it enters UIDs and fingerprints."""
        options = self.options
        names = (options.wanted_pixel_spacing, options.skip_air, options.assume_hu, options.slices)
        names += (options.strength, options.denoise, options.sharpen, options.limit_noise, options.consistent)
        between = "" if self.between is None else f" {self.between.settings}"
        extra = "" if options.compress == "none" else f" {options.compress}"
        if options.anonymize:
            extra += " anonymized" if shown_phase(self.series.phase, options) == self.series.phase else " without times"
        if self.reference is not None:  # whose UIDs do not tell one volume from another
            extra += f" of {self.series.identities[0]}"
        return f"upscale {ALGORITHM} {self.model.sha256} {self.engine} {names!r} {self.format}{between}{extra}"

    @property
    def made_from(self) -> str:
        """A digest of the source's files and the settings: the same, the same result."""
        headers = self.series.slices if self.reference is None else (*self.series.slices, *self.reference.slices)
        states = (f"{header.identity} {file_state(header.path)}" for header in headers)
        # Not in the settings: the one file is a conversion of the very slices that there would be without.
        form = ("enhanced",) if self.is_enhanced else ()
        # Not in the settings, either: the series' UID has a correction in it, and names are not in the pixels.
        form += (*self.series.variant, *(() if self.options.names or self.options.anonymize else ("no names",)))
        return digest(self.settings, *form, *states).hex()

    @property
    def series_uid(self) -> str:
        """Series UID of the result: the same for the same slices of a source and the same settings.

        A series that has grown is tuned and numbered as another one: under one UID an archive would mix both results.
        """
        series = self.reference or self.series
        slices = digest(*(header.identity for header in self.series.slices)).hex()
        return derived_uid(series.study_uid, series.series_uid, repr(series.geometry_key), slices, self.settings)

    @property
    def result_uid(self) -> str | None:
        """SeriesInstanceUID of the result; None where it has none, or must not be told."""
        if self.format == "nifti" or self.options.anonymize:
            return None
        return enhanced_series_uid(self.series_uid) if self.is_enhanced else self.series_uid

    def network_plane(self, index: int) -> Plane:
        """Where the network's pixels of a slice lie: `scale` times as many on the same field of view."""
        plane, scale = self.series.plane(index), self.model.scale
        rows, columns = plane.shape
        return plane.recentred((rows * scale, columns * scale), (plane.spacing[0] / scale, plane.spacing[1] / scale))

    def finer_plane(self, index: int) -> Plane:
        """Where the pixels of a slice of the source lie when it has been made finer, and resampled."""
        fine, spacing = self.network_plane(index), self.options.wanted_pixel_spacing
        return fine if spacing is None else at_spacing(fine, spacing)

    def plane(self, index: int) -> Plane:
        """Where the pixels of a slice of the result lie."""
        if self.between is None:
            return self.finer_plane(index)
        grid, first = self.between.grid, self.finer_plane(0)
        ends = np.array([self.series.slices[0].position, self.series.slices[-1].position])
        share = index * grid.spacing / (grid.distance * (grid.count - 1))
        x, y, z = (np.array(first.origin) + share * (ends[1] - ends[0])).tolist()
        return replace(first, origin=(x, y, z))

    def header(self, index: int) -> SliceHeader:
        """The slice whose header a slice of the result takes over: the nearest of the source or the reference."""
        if self.reference is not None:
            return nearest_slice(self.reference, self.plane(index))
        return self.series.slices[index if self.between is None else self.between.grid.nearest(index)]

    @property
    def reference_notes(self) -> list[str]:
        """A line where the grid of the volume is not that of the series that lends the headers."""
        differs = "" if self.reference is None else difference(self.series, self.reference)
        return [differs] if differs else []

    @property
    def derivation(self) -> Derivation:
        """What the headers of the result will say."""
        before, after = self.series.plane(0), self.plane(0)
        phase = shown_phase(self.series.phase, self.options)
        variant = "".join(f"; {words}" for words in (*self.series.variant, phase) if words)
        resampled = "" if self.options.wanted_pixel_spacing is None else ", resampled linearly to the spacing asked for"
        done = [
            f"Super-resolution in plane x{self.model.scale} from {_mm(before)} to "
            f"{_mm(after)} by the network {self.model.label} ({self.engine}){resampled}"
        ]
        if not self.is_in_plane:
            done = [f"Pixels{resampled}"] if resampled else []
        if self.between is not None:
            done.append(self.between.words)
        return Derivation(
            description=(
                f"{NOT_FOR_DIAGNOSIS}. {'; '.join(done)}; values beyond "
                f"{self.model.hu_range.low:g} to {self.model.hu_range.high:g} HU interpolated; "
                f"ctsr {__version__}{variant}"
            ),
            label=self._label,
            settings=self.settings,
            series_uid=self.series_uid,
            model_name=self.model.label,
        )

    @property
    def _label(self) -> str:
        in_plane = f"x{self.model.scale}" if self.is_in_plane else ""
        between = "" if self.between is None else f"z {self.between.grid.spacing:.4g} mm"
        return f"[SR {' '.join(part for part in (in_plane, between) if part)}]"

    def _described_reference(self, *, named: bool) -> dict[str, object]:
        if self.reference is None:
            return {}
        uid = shown_name(self.reference.series_uid, self.options, self.secret)
        return {"reference": {"series_uid": uid, "path": printable(str(self.reference.path)) if named else None}}

    def _between_described(self, between: Between) -> dict[str, object]:
        return asdict(replace(between, notes=tuple(self.shown(note) for note in between.notes)))

    def described(self) -> dict[str, object]:
        """Source, model and options, for run.json."""
        series, options = self.series, asdict(self.options)
        named = self.options.shows_names
        if not named:  # what was asked for may be a name
            options |= {"series": None, "only": None}
        return {
            "note": NOT_FOR_DIAGNOSIS,
            "source": {
                "patient_id": self.patient,
                "series_uid": shown_name(series.series_uid, self.options, self.secret),
                "phase": shown_phase(series.phase, self.options),
                "path": printable(str(series.path)) if named else None,
                "num_slices": len(series.slices),
                "rows": series.rows,
                "columns": series.columns,
                "pixel_spacing_mm": series.pixel_spacing,
                "kernel": series.kernel,
            },
            **self._described_reference(named=named),
            "model": asdict(self.model),
            "engine": self.engine,
            "options": options,
            **({} if self.between is None else {"between": self._between_described(self.between)}),
        }


def plan_series(
    inventory: Inventory,
    wanted: Sequence[Chosen],
    model: Model,
    engine: str,
    options: UpscaleOptions,
    out: Path,
    *,
    own_folders: bool = False,
    between: Model | None = None,
    between_engine: str = "",
    reference: Series | None = None,
) -> Iterator[Job]:
    """The jobs, with their places below `out` and the tiles that memory asks for.

    A source that is one series fills `out` itself; otherwise, and always with `own_folders`, every series has
    `out/<patient>/<series>`. `between` makes the slices between slices that `options` ask for. `reference` lends its
    headers to a NIfTI volume. Of several series, one that cannot be what was asked for has a job that says why.

    Raises:
        UsageError: `out` cannot hold the results, or the only series cannot be what was asked for.
    """
    alone = not own_folders and sum(len(patient.series) for patient in inventory.patients) == 1
    if not alone and (out / RUN_JSON).is_file():
        raise UsageError(
            f"{out}: is the result of a single series, and the source holds several; choose another folder"
        )
    folders = patient_folders([patient.patient_id for patient in inventory.patients])
    secret = secret_key() if options.anonymize else ""
    if not options.shows_names:
        folders = {name: safe_name(shown_name(name, options, secret)) for name in folders}
    taken: set[Path] = set()
    memory = options.memory_bytes
    for patient, series in wanted:
        name = safe_name(shown_name(series_name(series), options, secret))
        in_plane = not model.architecture.is_through_plane
        tiling = plan_tiles(model.architecture, (series.rows, series.columns), memory) if in_plane else None
        if reference is not None and not series.kernel:  # a NIfTI volume does not say what it was reconstructed with
            series = replace(series, kernel=reference.kernel)
        stack, refused = _between(series, between, between_engine, options)
        job = Job(
            series=series,
            output=out if alone else out / folders[patient.patient_id] / name,
            format=result_format(series, out, options, alone=alone, has_headers=reference is not None),
            model=ModelName.of(model),
            engine=f"{engine} {tiling.label}" if tiling else engine,
            tiling=tiling,
            options=options,
            secret=secret,
            between=stack,
            reference=reference,
        )
        if (misuse := _misuse(job, taken)) and len(wanted) == 1:
            raise UsageError(misuse)
        job = replace(job, refused=misuse or refused or _size_problem(job))
        if not job.refused:
            taken.add(job.output)
        yield job


def _misuse(job: Job, taken: Collection[Path]) -> str:
    """Why what was asked for cannot be made of this series, though of others it may; empty where it can."""
    series, (rows, columns) = job.series, job.plane(0).shape
    if job.format == "dicom" and series.is_volume and job.reference is None:
        return (
            f"{series.path}: a volume has no patient or study to make DICOM of; give a DICOM series of the same "
            "examination as `reference`, or use `format=nifti`"
        )
    if min(rows, columns) < SMALLEST_RESULT:
        asked = job.options.wanted_pixel_spacing
        words = "has only" if asked is None else f"`{job.options.pixel_option}` {asked:g} leaves"
        return f"{series.path}: {words} {rows} × {columns} pixels, too few for a result"
    if job.output in taken:
        return f"{series.path}: two results would be called {job.output}; upscale them one by one"
    return ""


def _size_problem(job: Job) -> str:
    """Why one file cannot hold the result; empty where it can, or is not wanted."""
    rows, columns = job.plane(0).shape
    size, memory = 2 * rows * columns * job.num_slices, job.options.memory_bytes
    problem = size_problem(size, memory) if job.is_enhanced else ""
    return f"{job.series.path}: {problem}" if problem else ""


def _between(series: Series, model: Model | None, engine: str, options: UpscaleOptions) -> tuple[Between | None, str]:
    """The slices between those of a series; or why there are none, where they are wanted."""
    if model is None or options.wanted_slice_spacing is None:
        return None, ""
    profile = None if options.slice_profile is None else parse_profile(options.slice_profile)
    try:
        wanted, option = options.wanted_slice_spacing, options.slice_option
        grid, notes = plan_slices(series, wanted, profile, assume_hu=options.assume_hu, option=option)
    except CtsrError as error:
        return None, str(error)
    return Between(grid, ModelName.of(model), engine, tuple(notes)), ""


def _mm(plane: Plane) -> str:
    return " x ".join(f"{mm:.4g}" for mm in plane.spacing) + " mm"
