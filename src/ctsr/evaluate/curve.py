"""The perception–distortion curve: the same slices by blends of two generators, from one to the other."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from ctsr.checkpoint import Generator
from ctsr.checkpoint.blend import blend
from ctsr.degrade import Degradation
from ctsr.errors import UsageError
from ctsr.evaluate.crew import Crew
from ctsr.evaluate.folder import result_folder
from ctsr.evaluate.model import ModelUnderTest
from ctsr.evaluate.options import EvaluateOptions
from ctsr.evaluate.run import Evaluation, evaluate, fingerprint_of, prepare
from ctsr.figures import ACCENT, COLORS, INK, calm, new_figure, save_figure
from ctsr.files import write_atomically, write_json
from ctsr.hashing import digest
from ctsr.progress import SILENT, Progress
from ctsr.text import safe_name

__all__ = ["Curve", "Point", "evaluate_curve"]


@dataclass(frozen=True)
class Point:
    """One blend: means over patients."""

    alpha: float
    """Share of the second generator."""
    psnr_db: float | None
    ssim: float | None
    lpips: float | None
    """None where it was not computed."""
    rmse_hu: float | None
    bias_hu: float | None
    window: str
    """Tag of the window that PSNR, SSIM and LPIPS were taken in."""
    mask: str
    """`none`, or `body`: what all of them were confined to."""
    folder: str
    """Of its evaluation, below the curve's."""
    failures: tuple[str, ...] = ()
    """A line for each patient or series that could not be used, wholly or in part."""


@dataclass(frozen=True)
class Curve:
    """What came of it."""

    folder: Path
    points: tuple[Point, ...]
    failures: tuple[str, ...]
    """A line for each patient or series that could not be used, wholly or in part."""


def evaluate_curve(
    first: Generator,
    second: Generator,
    alphas: Sequence[float],
    device: torch.device,
    degradation: Degradation,
    options: EvaluateOptions,
    *,
    crew: Crew | None = None,
    progress: Progress = SILENT,
) -> Curve:
    """Evaluate ``(1 − α)·first + α·second`` for each α on the same LR, and write table and plot.

    An interrupted curve is continued: blends that are done are taken over. The processes of a `crew` share the slices.

    Raises:
        UsageError: no α, or one outside [0, 1].
        CheckpointError: the generators cannot be blended.
        MissingInputError, SplitError: as `evaluate`.
    """
    if not alphas or min(alphas) < 0 or max(alphas) > 1:
        raise UsageError(f"--alphas needs values from 0 to 1, got {' '.join(f'{a:g}' for a in alphas) or 'none'}")
    stem = safe_name(f"{options.split}__alphas__{second.path.stem}")
    # The plan of one end stands for all blends: what is evaluated, and how.
    plan = prepare([ModelUnderTest(first, device)], degradation, options, SILENT)
    fingerprint = digest(fingerprint_of(plan), second.sha256, str(alphas)).hex()
    with result_folder(options.output_dir, stem, fingerprint) as folder:
        done = _read_points(folder.path)
        for alpha in alphas:
            if any(point.alpha == alpha for point in done):
                continue
            progress.note(f"alpha {alpha:g}")
            blended = blend(first, second, alpha)
            blended.net.to(device)
            there = replace(options, output_dir=folder.path)
            found = evaluate([ModelUnderTest(blended, device)], degradation, there, crew=crew, progress=progress)
            done.append(_point(alpha, found))
            _write_points(folder.path, done)
        _draw(folder.path / "curve.png", done, first, second)
    failures = dict.fromkeys(failure for point in done for failure in point.failures)
    return Curve(folder.path, tuple(done), tuple(failures))


def _point(alpha: float, found: Evaluation) -> Point:
    means, domain = found.means[found.model_methods[0]], found.domains[0]
    names = ("PSNR", "SSIM", "LPIPS", "RMSE_HU", "BIAS_HU")
    return Point(
        alpha,
        *(means[name].mean if name in means else None for name in names),
        window=domain.window.tag,
        mask=domain.mask,
        folder=found.folder.name,
        failures=found.failures,
    )


def _read_points(folder: Path) -> list[Point]:
    path = folder / "curve.json"
    if not path.is_file():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    return [Point(**(point | {"failures": tuple(point["failures"])})) for point in found]


def _write_points(folder: Path, points: Sequence[Point]) -> None:
    """``curve.json`` and ``curve.csv``; what was not computed is null and empty."""
    rows = [asdict(point) for point in sorted(points, key=lambda point: point.alpha)]
    text = io.StringIO()
    columns = [column.name for column in fields(Point) if column.name != "failures"]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "curve.csv", text.getvalue())
    write_json(folder / "curve.json", rows)


def _draw(path: Path, points: Sequence[Point], first: Generator, second: Generator) -> None:
    """Distortion to the right, perceptual distance upwards: better is down and left."""
    figure = new_figure(6.4, 4.4)
    axes = figure.subplots()
    shown = [p for p in sorted(points, key=lambda p: p.alpha) if p.rmse_hu is not None and p.lpips is not None]
    if shown:
        xs, ys = [p.rmse_hu or 0.0 for p in shown], [p.lpips or 0.0 for p in shown]
        axes.plot(xs, ys, color=COLORS[1], linewidth=1.6, marker="o")
        for point, x, y in zip(shown, xs, ys, strict=True):
            color = ACCENT if point.alpha in {0, 1} else INK
            axes.annotate(f"α = {point.alpha:g}", (x, y), (6, 6), textcoords="offset points", fontsize=8, color=color)
    else:
        missing = " and ".join(
            name
            for name, there in (("LPIPS", "lpips"), ("RMSE_HU", "rmse_hu"))
            if all(getattr(p, there) is None for p in points)
        )
        axes.text(0.5, 0.5, f"{missing} was not computed", transform=axes.transAxes, ha="center", color=INK)
    axes.set_xlabel("distortion: RMSE, HU", color=INK)
    axes.set_ylabel("perceptual distance: LPIPS", color=INK)
    axes.margins(0.15)
    calm(axes)
    where = " ".join(dict.fromkeys(f"{p.window}{'' if p.mask == 'none' else ', ' + p.mask + ' only'}" for p in points))
    ends = (f"α = {end}: {generator.path.parent.name}" for end, generator in enumerate((first, second)))
    figure.suptitle("\n".join((*ends, f"metrics in {where}")), fontsize=9, color=INK)
    save_figure(figure, path)
