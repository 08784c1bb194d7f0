"""Roots opened for use: their patients, the split that holds, and the decoded series of each part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctsr.data.roots import open_roots
from ctsr.data.split import Split, choose_split
from ctsr.data.store import Opened, open_all
from ctsr.dicom.defects import Verb, check
from ctsr.errors import CtsrError
from ctsr.progress import SILENT, Progress
from ctsr.series import PatientExams, Series

__all__ = ["SplitExams", "open_exams"]


@dataclass(frozen=True)
class SplitExams:
    """The patients of one or several roots, and which part each belongs to."""

    patients: tuple[PatientExams, ...]
    split: Split
    source: str
    """Where the split came from."""
    failures: tuple[str, ...] = ()
    """A line for each patient some of whose CT cannot be read."""

    def part(
        self,
        name: str,
        verb: Verb,
        store: Path,
        *,
        only: Sequence[str] | None = None,
        assume_hu: bool = False,
        progress: Progress = SILENT,
    ) -> Opened:
        """The decoded series of a part, by patient id; what `verb` refuses is among the failures.

        Args:
            name: `train`, `val` or `test`.
            verb: whose column of the table of defects holds (`ctsr.dicom.defects.POLICY`); warnings go to `progress`.
            store: where decoded series are kept.
            only: the patients wanted; all of the part when left out.
            assume_hu: read series without a rescale as HU.
            progress: hears of warnings and of the decoding.
        """
        wanted = set(self.split.part(name) if only is None else only)
        chosen: list[Series] = []
        refused: list[str] = []
        for series in (one for patient in self.patients if patient.patient_id in wanted for one in patient.series):
            try:
                for warning in check(series, verb, assume_hu=assume_hu):
                    progress.note(f"warning: {warning}")
                chosen.append(series)
            except CtsrError as error:
                refused.append(str(error))
        opened = open_all(chosen, store, assume_hu=assume_hu, progress=progress)
        return Opened(opened.series, (*refused, *opened.failures))


def open_exams(
    roots: Sequence[Path],
    *,
    split_json: Path | None = None,
    checkpoint_split: Mapping[str, Sequence[str]] | None = None,
    seed: int = 42,
    folder: Path = Path("splits"),
    progress: Progress = SILENT,
) -> SplitExams:
    """Scan the roots and choose the split as `choose_split` does.

    Raises:
        MissingInputError: a root is not there or holds no usable CT, or the split names a missing patient.
        SplitError: see `choose_split`.
    """
    patients = open_roots(roots, progress=progress)
    split, source = choose_split(
        patients.ids, split_json=split_json, checkpoint=checkpoint_split, folder=folder, seed=seed
    )
    return SplitExams(patients.usable, split, source, patients.failures)
