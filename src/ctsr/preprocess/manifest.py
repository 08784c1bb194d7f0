"""Records in the output folder: a manifest of finished files, for reruns, and two logs of series, for people."""

import csv
import dataclasses
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self

from ctsr.documents import PREPROCESSING_LOG, as_type, parse_json
from ctsr.errors import ReadError
from ctsr.files import file_state, to_json, write_atomically
from ctsr.hashing import digest, pseudonym
from ctsr.paths import claim, release
from ctsr.reporting import one_line, printable
from ctsr.series import Excluded

MANIFEST, LOCK = Path(".ctsr") / "preprocess.jsonl", Path(".ctsr") / "lock"


@dataclass(frozen=True)
class ManifestEntry:
    """One finished file."""

    output: str
    """Below the output folder, with forward slashes."""
    owner: str
    """The series it belongs to."""
    made_from: str
    """`fingerprint` of its source and settings."""
    size: int
    """Bytes."""


def fingerprint(source: Path, *settings: str) -> str:
    """A digest of a source file's size and time of change, and of whatever else decides what is made of it."""
    return digest(*file_state(source), *settings).hex()


class Manifest:
    """The finished files of one output folder; a context in which lines are appended as slices get done.

    Raises:
        UsageError: another process has it: two at once would write logs that know nothing of one another's series.
    """

    def __init__(self, out_dir: Path) -> None:
        self._out_dir = out_dir
        self._path = out_dir / MANIFEST
        self._path.parent.mkdir(parents=True, exist_ok=True)
        claim(out_dir / LOCK, f"{out_dir}: another `ctsr preprocess` writes into it now")
        self._done = {entry.output: entry for entry in _read(self._path)}
        self._lines: IO[str] | None = None

    def __enter__(self) -> Self:
        self._rewrite()
        self._lines = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lines is not None:
            self._lines.close()
        release(self._out_dir / LOCK)

    def holds(self, output: str, made_from: str) -> bool:
        """Whether `output` exists, is complete, and was made from exactly this source and these settings."""
        entry = self._done.get(output)
        return entry is not None and entry.made_from == made_from and self._is_ours(entry)

    def add(self, entry: ManifestEntry) -> None:
        """Remember a file that was just written."""
        assert self._lines is not None, "entries are added inside `with`"
        self._done[entry.output] = entry
        self._lines.write(json.dumps(asdict(entry)) + "\n")
        self._lines.flush()

    def outputs_of(self, owner: str) -> list[str]:
        """The finished files of one series."""
        return [entry.output for entry in self._done.values() if entry.owner == owner]

    def remove(self, outputs: Iterable[str]) -> int:
        """Delete files that an earlier run wrote and this one would not; returns how many there were.

        A file that was changed since it was written is not ours any more, and stays.
        """
        removed = 0
        for output in outputs:
            entry = self._done.pop(output, None)
            if entry is not None and self._is_ours(entry):
                (self._out_dir / output).unlink()
                removed += 1
        return removed

    def _is_ours(self, entry: ManifestEntry) -> bool:
        path = self._out_dir / entry.output
        return path.is_file() and path.stat().st_size == entry.size

    def _rewrite(self) -> None:
        """One line per file that is still there, where lines have been superseded or cut off by a crash."""
        content = "".join(json.dumps(asdict(entry)) + "\n" for entry in self._done.values())
        if not self._path.is_file() or self._path.read_text(encoding="utf-8", errors="replace") != content:
            write_atomically(self._path, content)


def _read(path: Path) -> list[ManifestEntry]:
    """The entries of a manifest; a line that a crash cut off counts for nothing."""
    if not path.is_file():
        return []
    entries: list[ManifestEntry] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = as_type(parse_json(line), ManifestEntry)
        except ReadError:
            continue
        # Files of entries are deleted: never one that lies elsewhere.
        if _is_below(entry.output):
            entries.append(entry)
    return entries


def _is_below(output: str) -> bool:
    place = PurePosixPath(output)
    return not (place.is_absolute() or ".." in place.parts or "\0" in output)


UNFINISHED = "not finished: the same command continues it"
TOLD = "not whole or left out: the terminal has said why"
CSV_LOG = PREPROCESSING_LOG
JSON_LOG = "preprocessing_log.json"


@dataclass(frozen=True, kw_only=True)
class SeriesRow:
    """What became of one series; the field names are the columns. Sizes are in pixels, lengths in mm."""

    patient_id: str
    """The source's folder name."""
    series_uid: str
    num_slices: int
    """Slices that are in the output; of a skipped series, slices that were left out."""
    orig_row_mm: float | None = None
    orig_col_mm: float | None = None
    slice_thickness_mm: float | None = None
    new_row_mm: float | None = None
    new_col_mm: float | None = None
    orig_rows: int | None = None
    orig_cols: int | None = None
    new_rows: int | None = None
    new_cols: int | None = None
    upsampled: bool | None = None
    """True where the source was coarser than the target along either axis."""
    skipped: bool
    reason: str = ""
    """Why it was skipped, or what of it is missing."""
    new_series_uid: str = ""
    source: str
    """Folder or file below the root, with forward slashes."""
    output: str = ""
    """Folder below the output folder, with forward slashes."""

    @property
    def key(self) -> tuple[str, str]:
        """What a row is about: later rows replace earlier ones of the same key."""
        return self.patient_id, self.series_uid or self.source

    def without_names(self) -> "SeriesRow":
        """The row with hashes in place of names, UIDs and paths; why something is missing is said in the terminal."""
        # The file of a volume is looked up by the end of `source` and the folder in `output`.
        folder = PurePosixPath(self.output)
        is_volume = bool(self.output) and not self.new_series_uid
        return dataclasses.replace(
            self,
            patient_id=pseudonym(self.patient_id),
            series_uid=pseudonym(self.series_uid) if self.series_uid else "",
            source=f"{folder.name}.nii.gz" if is_volume else pseudonym(self.source),
            reason=self.reason if self.reason in {"", UNFINISHED} else TOLD,
        )

    @classmethod
    def of_excluded(cls, patient_id: str, excluded: Excluded, root: Path) -> "SeriesRow":
        """The row of something that was looked at and left out."""
        return cls(
            patient_id=patient_id,
            series_uid=excluded.series_uid,
            num_slices=excluded.num_slices,
            skipped=True,
            reason=one_line(excluded.reason),
            source=printable(excluded.path.relative_to(root).as_posix()),
        )


def read_log(out_dir: Path) -> tuple[SeriesRow, ...]:
    """The rows in an output folder; none where nothing was ever written.

    Raises:
        ReadError: the JSON log is there but is not one of ours.
    """
    path = out_dir / JSON_LOG
    if not path.is_file():
        return ()
    try:
        return as_type(parse_json(path.read_bytes()), tuple[SeriesRow, ...])
    except ReadError as error:
        raise ReadError(f"{path}: not a log of ctsr ({error}); move it away, or choose another `out_dir`") from error


def write_log(out_dir: Path, rows: Iterable[SeriesRow]) -> None:
    """Write both logs, sorted by patient, each whole; files that say the same already are left alone."""
    table = [dataclasses.asdict(row) for row in sorted(rows, key=_order)]
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    columns = [field.name for field in dataclasses.fields(SeriesRow)]
    writer.writerow(columns)
    writer.writerows(list(map(_cell, row.values())) for row in table)
    # JSON first: it is the one that is read back, so an interruption between the two is mended by the next run.
    _update(out_dir / JSON_LOG, to_json(table))
    _update(out_dir / CSV_LOG, lines.getvalue())


def _order(row: SeriesRow) -> tuple[str, str, str, int]:
    return row.patient_id, row.source, row.series_uid, row.orig_rows or 0


def _cell(value: object) -> object:
    """As in JSON: true and false in small letters; empty where JSON has null."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value


def _update(path: Path, content: str) -> None:
    if not path.is_file() or path.read_bytes() != content.encode("utf-8"):
        write_atomically(path, content)
