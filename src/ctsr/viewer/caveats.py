"""Reasons to read the figures of a series with care: training data, another domain, an upsampled reference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ctsr.data.datasets import PREPROCESSING_LOG, trained_on
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.preprocess.manifest import SeriesRow, read_log
from ctsr.series import Series
from ctsr.upscale.plan import unusual


@dataclass(frozen=True)
class Caveat:
    """One reason why figures of a series mislead."""

    kind: Literal["trained", "domain", "upsampled"]
    text: str
    """A sentence for the user."""


def find_caveats(series: Sequence[Series], model: ModelUnderTest | None) -> tuple[tuple[Caveat, ...], ...]:
    """Caveats of each series as reference and, with a model, as its input.

    Raises:
        ReadError: the log of a preprocessed root cannot be read.
    """
    logs: dict[Path, tuple[SeriesRow, ...]] = {}
    found: list[tuple[Caveat, ...]] = []
    for each in series:
        root = next((place for place in each.path.parents if (place / PREPROCESSING_LOG).is_file()), None)
        if root is not None and root not in logs:
            logs[root] = read_log(root)
        of_model = _of_model(each, model) if model else []
        found.append((*of_model, *(_of_reference(each, root, logs[root]) if root else [])))
    return tuple(found)


def _of_model(series: Series, model: ModelUnderTest) -> list[Caveat]:
    found: list[Caveat] = []
    if trained_on([series.patient_id], model.split or {}, model.also_trained_on):
        text = f"The model was trained on patient {series.patient_id}: figures of SR are not a test."
        found.append(Caveat("trained", text))
    # The model's domain is a matter of its input: LR, whose pixels are larger by the scale.
    row_mm, column_mm = series.pixel_spacing
    lr = replace(series, pixel_spacing=(row_mm * model.scale, column_mm * model.scale))
    for reason in unusual(lr, model.generator.meta):
        sentence = reason[:1].upper() + reason[1:]
        found.append(Caveat("domain", f"LR {reason}." if reason.startswith("pixel spacing") else f"{sentence}."))
    return found


def _of_reference(series: Series, root: Path, log: Sequence[SeriesRow]) -> list[Caveat]:
    for row in log:
        is_dicom_match = row.new_series_uid == series.series_uid if row.new_series_uid else False
        is_nifti_match = bool(row.output) and root / row.output / Path(row.source).name == series.path
        if row.upsampled and row.orig_row_mm and (is_dicom_match or is_nifti_match):
            text = (
                f"HR was upsampled by preprocessing, {row.orig_row_mm:.3g} → {row.new_row_mm:.3g} mm: it has less "
                "detail than its pixels suggest, and every method comes out better."
            )
            return [Caveat("upsampled", text)]
    return []
