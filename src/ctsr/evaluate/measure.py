"""The rows of an evaluation: those an interrupted one has left, and the others measured in the order of the plan."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ctsr.errors import CtsrError
from ctsr.evaluate.crew import Crew, measured_by
from ctsr.evaluate.folder import ResultFolder
from ctsr.evaluate.pipeline import Lost, measured
from ctsr.evaluate.plan import EvaluationPlan
from ctsr.evaluate.rows import Columns, Row, RowFile, SliceRef, read_rows, to_csv
from ctsr.files import write_atomically
from ctsr.progress import Progress

__all__ = ["Rows", "columns_of", "measure"]


@dataclass(frozen=True)
class Rows:
    """What came of the slices."""

    by_slice: dict[int, list[Row]]
    """Number of a slice in the plan → its rows; in the plan's order."""
    failures: tuple[str, ...]
    """A line for each series with slices that have none."""

    @property
    def all(self) -> list[Row]:
        """In the order of the plan."""
        return [row for own in self.by_slice.values() for row in own]


def measure(plan: EvaluationPlan, folder: ResultFolder, key: str, crew: Crew | None, progress: Progress) -> Rows:
    """Measure every slice that has no rows yet; they reach the disk slice by slice.

    Args:
        plan: settles everything.
        folder: whose `metrics.csv` grows.
        key: changes with everything that a row depends on.
        crew: processes that share the work; this one alone when None.
        progress: hears how far it is.

    Raises:
        CtsrError: not one slice could be measured.
    """
    kept = _kept(plan, folder.metrics_csv) if folder.continued else {}
    if folder.continued:
        progress.note(f"continuing {folder.path}: {len(kept)} of {len(plan.slices)} slices are done")
    wanted = [(number, planned) for number, planned in enumerate(plan.slices) if number not in kept]
    found, lost = dict(kept), list[Lost]()
    results = measured(plan, wanted) if crew is None else measured_by(crew, plan, key, wanted)
    with RowFile(folder.metrics_csv, columns_of(plan), [row for own in kept.values() for row in own]) as file:
        tracked = progress.track(results, total=len(wanted), what="Evaluating slices")
        for (number, _), own in zip(wanted, tracked, strict=True):
            if isinstance(own, Lost):
                lost.append(own)
                continue
            file.add(own)
            found[number] = own
    rows = Rows(dict(sorted(found.items())), tuple(_told(lost)))
    if not found:
        raise CtsrError(f"not one slice could be measured: {rows.failures[0]}")
    if list(found) != list(rows.by_slice):  # slices that an earlier run had lost
        write_atomically(folder.metrics_csv, to_csv(rows.all, columns_of(plan)))
    return rows


def columns_of(plan: EvaluationPlan) -> Columns:
    """Of its `metrics.csv`."""
    return Columns(plan.metrics, plan.domains, plan.model.hu_range, plan.learned.pi_kind)


def _kept(plan: EvaluationPlan, metrics_csv: Path) -> dict[int, list[Row]]:
    """The rows of those slices of the plan that have all of theirs, by the slice's number."""
    by_ref: dict[SliceRef, list[Row]] = {}
    for row in read_rows(metrics_csv):
        by_ref.setdefault(row.slice, []).append(row)
    expected = [(domain.window.tag, domain.mask, method) for domain in plan.domains for method in plan.methods]
    own = {number: by_ref.get(planned.ref, []) for number, planned in enumerate(plan.slices)}
    return {
        number: rows for number, rows in own.items() if [(row.window, row.mask, row.method) for row in rows] == expected
    }


def _told(lost: Sequence[Lost]) -> Iterator[str]:
    """A line for each series and reason."""
    for (patient, series, reason), several in groupby(
        lost, key=lambda one: (one.slice.patient_id, one.slice.series_uid, one.reason)
    ):
        count = len(list(several))
        yield f"{patient}: {count} slices of series {series} not measured, the same command tries again: {reason}"
