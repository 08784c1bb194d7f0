"""The linear baseline of an evaluation: a least-squares filter, fitted on patients of the train part alone."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctsr.data.datasets import SplitExams
from ctsr.data.hu_cache import StoredSeries
from ctsr.data.pairs import slice_pair
from ctsr.degrade import DegradationSampler
from ctsr.errors import UsageError
from ctsr.hu import HURange
from ctsr.models.interpolation import LinearFilter, Pair, fit_linear_filter
from ctsr.progress import SILENT, Progress
from ctsr.series_quality import spread_indices

MOST_PATIENTS = 8
"""Of the train part, evenly along its list: more do not make 80 weights a phase better."""
SLICES_A_PATIENT = 2
LARGEST_SIDE = 256
"""LR pixels: of a larger slice, the middle is taken. It bounds the fit to some seconds."""


@dataclass(frozen=True, eq=False)
class LinearBaseline:
    """A fitted filter, and the slices it has seen."""

    filter: LinearFilter
    patients: tuple[str, ...]
    slices: tuple[str, ...]
    """Identities of the slices, as rows have them."""

    @property
    def sha256(self) -> str:
        """Of the weights, float64 in the order of the array."""
        return hashlib.sha256(self.filter.weights.astype("<f8").tobytes()).hexdigest()

    def document(self) -> dict[str, Any]:
        """For `summary.json`."""
        return {
            "sha256": self.sha256,
            "size": self.filter.size,
            "patients": list(self.patients),
            "slices": list(self.slices),
        }


def fit_linear_baseline(
    exams: SplitExams,
    evaluated: Sequence[str],
    store: Path,
    sampler: DegradationSampler,
    hu_range: HURange,
    *,
    assume_hu: bool = False,
    progress: Progress = SILENT,
) -> LinearBaseline:
    """Fit the filter to slices of training patients, degraded as those of the evaluation are.

    Args:
        exams: patients and split.
        evaluated: patients of the evaluation: none of them is used, whatever part they belong to.
        store: where decoded series are kept.
        sampler: what LR is made with.
        hu_range: HU that the network sees as [-1, 1].
        assume_hu: read series without a rescale as HU.
        progress: hears of the patients and of the time.

    Raises:
        UsageError: the train part has no patient, or none that is not evaluated.
    """
    started = time.perf_counter()
    usable = [patient for patient in exams.split.part("train") if patient not in set(evaluated)]
    if not usable:
        raise UsageError(
            f"`baselines` linear is fitted on training patients, and the train part of {exams.source} has none that is "
            "not evaluated here; leave linear out, or name a split with `split_json`"
        )
    chosen = [usable[index] for index in spread_indices(len(usable), MOST_PATIENTS)]
    series = exams.part("train", "evaluate", store, only=chosen, assume_hu=assume_hu, progress=progress).series
    slices = list(_chosen_slices(series, chosen))
    pairs = (_pair(stored, index, sampler, hu_range) for stored, index in slices)
    fitted = fit_linear_filter(pairs, scale=sampler.degradation.scale)
    patients = tuple(dict.fromkeys(stored.patient_id for stored, _ in slices))
    progress.note(
        f"linear filter: fitted to {len(slices)} slices of {len(patients)} training patients "
        f"in {time.perf_counter() - started:.1f} s"
    )
    return LinearBaseline(fitted, patients, tuple(stored.identities[index] for stored, index in slices))


def _chosen_slices(series: Sequence[StoredSeries], patients: Sequence[str]) -> Iterator[tuple[StoredSeries, int]]:
    for patient in patients:
        own: list[tuple[StoredSeries, int]] = []
        for stored in series:
            if stored.patient_id == patient:
                own += [(stored, index) for index in range(len(stored))]
        yield from (own[place] for place in spread_indices(len(own), SLICES_A_PATIENT))


def _pair(stored: StoredSeries, index: int, sampler: DegradationSampler, hu_range: HURange) -> Pair:
    """LR and HR in [-1, 1], at most `LARGEST_SIDE` LR pixels along each side."""
    pair, scale = slice_pair(stored, index, sampler, hu_range), sampler.degradation.scale
    lr, hr = pair.lr[0, 0].numpy(), pair.hr[0, 0].numpy()
    rows, columns = _middle(lr.shape[0]), _middle(lr.shape[1])
    finer = slice(scale * rows.start, scale * rows.stop), slice(scale * columns.start, scale * columns.stop)
    return lr[rows, columns], hr[finer]


def _middle(size: int) -> slice:
    start = max(0, size - LARGEST_SIDE) // 2
    return slice(start, start + min(size, LARGEST_SIDE))
