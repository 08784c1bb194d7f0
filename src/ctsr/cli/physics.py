"""`ctsr physics`: resolution and noise of a real scan of a phantom, before and after super-resolution."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ctsr.cli.console import NONE, Console
from ctsr.cli.options import Common
from ctsr.errors import UsageError
from ctsr.exams import read_slice, scan
from ctsr.files import write_atomically
from ctsr.hu import HUOptions
from ctsr.paths import check_apart, native_path, resolve_path
from ctsr.series import Series, check
from ctsr.series_quality import spread_indices

if TYPE_CHECKING:  # torch is imported when there is something to compute, not for `--help`
    from ctsr.padding import SlicePixels
    from ctsr.physics.real_scan import ScanPhysics
    from ctsr.volume import VoxelsHU

COLUMNS = (
    "image",
    "pixel mm",
    "object",
    "number",
    "MTF50 1/mm",
    "MTF10 1/mm",
    "edge 10–90 % mm",
    "noise HU",
    "noise 1/mm",
)


@dataclass(frozen=True, kw_only=True)
class Physics(HUOptions):
    """Measure a real scan of a phantom: transfer function from a wire, rods or edges, and noise power spectrum.

    Works with the series as it is. With a model, the same is measured after super-resolution, beside bicubic.

    ctsr physics PHANTOM/series1

    ctsr physics PHANTOM/series1 --kind rods --slices 10 30 --model_path ctsr-x2 --out_dir measured
    """

    source: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="SERIES")]] = None
    """A folder that holds one series, or a file."""
    series: str | None = None
    """Where there are several: the one with this SeriesInstanceUID."""
    kind: Literal["wire", "rods", "edge"] | None = None
    """What to measure resolution with; left out, a wire where there is one, else rods, else the sharpest edges."""
    center: tuple[float, float] | None = None
    """Row and column of the wire in pixels, within a millimetre; looked for when left out."""
    slices: tuple[int, int] | None = None
    """First slice and the one after the last, from 0; five spread over the series when left out."""
    model_path: str | None = None
    """Checkpoint file, run folder or name: also measure what it makes of the scan at the default strength."""
    out_dir: Path | None = None
    """Receives transfer.csv, noise.csv and physics.png."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status 0."""
        if self.source is None:
            raise UsageError("ctsr physics: give the folder of one series: ctsr physics SERIES")
        from ctsr.physics.real_scan import measure_scan

        series = self._series(console)
        for warning in check(series, "view", assume_hu=self.assume_hu):
            console.note(f"warning: {warning}")
        if self.out_dir is not None:
            check_apart(series.path, self.out_dir)
        pixels = [read_slice(series, index, assume_hu=self.assume_hu) for index in self._indices(series)]
        images, paddings = [found.hu for found in pixels], [found.padding for found in pixels]
        found = measure_scan(images, series.pixel_spacing, paddings, kind=self.kind, center=self.center)
        measured = {"as it is": found}
        spacing = {"as it is": series.pixel_spacing[0]}
        if self.model_path is not None:
            kind = measured["as it is"].kind
            for name, (scale, results) in _enlarged(series, pixels, self.model_path, console).items():
                finer = series.pixel_spacing[0] / scale, series.pixel_spacing[1] / scale
                center = self.center and (scale * (self.center[0] + 0.5) - 0.5, scale * (self.center[1] + 0.5) - 0.5)
                masks = [mask if mask is None else mask.repeat(scale, 0).repeat(scale, 1) for mask in paddings]
                measured[name] = measure_scan(results, finer, masks, kind=kind, center=center, finer=scale)
                spacing[name] = finer[0]
        rows = [row for name, found in measured.items() for row in _rows(name, spacing[name], found)]
        console.table(f"{series.patient_id}: {len(images)} slices", COLUMNS, rows)
        if self.out_dir is not None:
            _write(native_path(self.out_dir), measured)
            console.note(f"wrote {self.out_dir}")
        return 0

    def _series(self, console: Console) -> Series:
        assert self.source is not None, "checked before"
        correction = self.hu_correction
        inventory = scan(resolve_path(self.source, progress=console), correction=correction, progress=console)
        found = [
            candidate for candidate in inventory.all_series() if self.series is None or candidate.is_called(self.series)
        ]
        if len(found) != 1:
            names = ", ".join(candidate.series_uid for candidate in found) or "none"
            raise UsageError(f"{self.source}: one series is measured at a time, found {names}; choose with --series")
        return found[0]

    def _indices(self, series: Series) -> tuple[int, ...]:
        count = len(series.slices)
        if self.slices is None:
            return spread_indices(count)
        first, end = self.slices
        if not 0 <= first < end <= count:
            raise UsageError(
                f"--slices {first} {end}: the series has slices 0 to {count - 1}; give the first, and the one after "
                f"the last, at most {count}"
            )
        return tuple(range(first, end))


def _enlarged(
    series: Series, pixels: "list[SlicePixels]", model_path: str, console: Console
) -> "dict[str, tuple[int, list[VoxelsHU]]]":
    """Bicubic interpolation and the model, as `ctsr upscale` runs it, with its warnings: name → scale and slices."""
    from ctsr.checkpoint import find_model, unusual
    from ctsr.upscale.tuning import super_resolve_sample

    model = find_model(model_path, progress=console)
    sample = super_resolve_sample(pixels, model, series.pixel_spacing)
    for warning in (*unusual(series, model.meta), *sample.tuning.warnings(model.meta)):
        console.note(f"warning: as `ctsr upscale` says: {warning}")
    scale = model.architecture.scale
    return {"bicubic": (scale, sample.bicubic), model.path.stem: (scale, sample.results)}


def _rows(name: str, pixel_mm: float, measured: "ScanPhysics") -> Iterator[tuple[str, ...]]:
    noise = measured.noise
    for found in measured.objects:
        yield (
            name,
            f"{pixel_mm:.3f}",
            found.name,
            str(found.count),
            _cell(found.transfer.mtf50_per_mm, 3),
            _cell(found.transfer.mtf10_per_mm, 3),
            _cell(found.width_mm, 2),
            _cell(noise.sigma_hu, 1),
            _cell(noise.mean_frequency_per_mm, 2),
        )


def _cell(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _write(folder: Path, measured: "Mapping[str, ScanPhysics]") -> None:
    from ctsr.figures import save_figure
    from ctsr.physics.figures import scan_figure

    transfer, noise = list[tuple[str, ...]](), list[tuple[str, ...]]()
    for name, found in measured.items():
        for part in found.objects:
            curve = zip(part.transfer.frequencies_per_mm, part.transfer.values, strict=True)
            transfer += [(name, part.name, f"{f:.5g}", f"{value:.5g}") for f, value in curve]
        if found.spectrum is not None:
            curve = zip(found.spectrum.frequencies_per_mm, found.spectrum.power_hu2_mm2, strict=True)
            noise += [(name, f"{f:.5g}", f"{power:.5g}") for f, power in curve]
    folder.mkdir(parents=True, exist_ok=True)
    _write_table(folder / "transfer.csv", ("image", "object", "frequency_per_mm", "transfer"), transfer)
    _write_table(folder / "noise.csv", ("image", "frequency_per_mm", "power_hu2_mm2"), noise)
    save_figure(scan_figure(measured), folder / "physics.png")


def _write_table(path: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_atomically(path, text.getvalue())
