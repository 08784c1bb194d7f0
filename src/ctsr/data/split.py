"""The split by patient that every command uses, and the JSON file it is kept in."""

import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain, combinations
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from ctsr.documents import as_type, parse_json
from ctsr.errors import DomainError, MissingInputError, ReadError, SplitError
from ctsr.files import write_json
from ctsr.hashing import pseudonym, with_names
from ctsr.reporting import counted, listed
from ctsr.series import PatientExams

Part: TypeAlias = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
DEFAULT_SEED = 42
NAMED = 5
"""Patients that a message names before it says how many more there are."""
SPLIT_HINT = "; `ctsr split --root ROOT` writes a split of those that are, which `split_json` names"


@dataclass(frozen=True)
class Split:
    """Which patients belong to which part; no patient belongs to two."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        for part in PARTS:
            if twice := [name for name, times in Counter(self.part(part)).items() if times > 1]:
                raise SplitError(f"the split names {', '.join(twice)} twice in {part}")
        for first, second in combinations(PARTS, 2):
            if shared := sorted(set(self.part(first)) & set(self.part(second))):
                raise SplitError(f"a split must not share patients: {', '.join(shared)} in {first} and in {second}")

    def part(self, name: str) -> tuple[str, ...]:
        """The patients of `train`, `val` or `test`."""
        if name not in PARTS:
            raise SplitError(f"no part of a split is called {name!r}; there are {', '.join(PARTS)}")
        return cast("tuple[str, ...]", getattr(self, name))

    @property
    def patients(self) -> frozenset[str]:
        """All of them."""
        return frozenset((*self.train, *self.val, *self.test))

    def as_dict(self) -> dict[str, list[str]]:
        """Part → patient ids, for a checkpoint."""
        return {name: list(self.part(name)) for name in PARTS}

    @classmethod
    def from_dict(cls, parts: Mapping[str, Sequence[str]]) -> "Split":
        """The inverse of `as_dict`."""
        return cls(*(tuple(parts.get(name, ())) for name in PARTS))


def split_patients(
    patient_ids: Iterable[str],
    seed: int = DEFAULT_SEED,
    *,
    together: Sequence[Sequence[str]] = (),
    mix_ups: Sequence[str] = (),
) -> Split:
    """70/15/15 by patient: sort the ids, permute them with `seed`, cut at ``int(.70 n)`` and ``int(.85 n)``.

    Every part gets at least one patient; the order in which the ids come does not matter.

    Args:
        patient_ids: folders with usable CT.
        seed: of the permutation.
        together: groups of ids that are one person, who stands where the first of them would and is counted once.
        mix_ups: a line for each folder that holds several people, which may be why there are few.

    Raises:
        SplitError: fewer than three patients.
        DomainError: a negative seed.
    """
    if seed < 0:
        raise DomainError(f"`seed` must not be negative, got {seed}")
    leader = {name: min(group) for group in together for name in group}
    people: dict[str, list[str]] = {}
    for name in sorted(set(patient_ids)):
        people.setdefault(leader.get(name, name), []).append(name)
    ids, n = list(people), len(people)
    if n < len(PARTS):
        few = f"{counted(n, 'patient')} with usable CT cannot be split into train, val and test; at least 3 are needed"
        raise SplitError(f"{few} ({listed(mix_ups, NAMED)})" if mix_ups else few)
    order = [people[ids[i]] for i in np.random.default_rng(seed).permutation(n)]
    until_val = min(max(int(0.85 * n), int(0.70 * n) + 1), n - 1)
    until_train = min(int(0.70 * n), until_val - 1)
    cuts = order[:until_train], order[until_train:until_val], order[until_val:]
    return Split(*(tuple(chain.from_iterable(part)) for part in cuts))


def check_together(split: Split, groups: Sequence[Sequence[str]], source: str) -> None:
    """Refuse a split that puts folders of one person into different parts.

    Raises:
        SplitError: it does.
    """
    for group in groups:
        places = {name: part for part in PARTS for name in split.part(part) if name in group}
        if len(set(places.values())) > 1:
            shown = ", ".join(f"{name} ({part})" for name, part in places.items())
            raise SplitError(
                f"{source}: {shown} are one patient, by study, PatientID or voxels, in several parts: "
                "figures would be of a patient that was trained on; split again with `ctsr split`, or pass "
                "`allow_train_patients`"
            )


def split_file(folder: Path, seed: int = DEFAULT_SEED) -> Path:
    """Where the split of a seed is kept: ``patient_split_seed<seed>.json`` in `folder`."""
    return folder / f"patient_split_seed{seed}.json"


def read_split(path: Path) -> Split:
    """The split in a JSON file that `ctsr split` wrote.

    Raises:
        MissingInputError: no such file.
        SplitError: it is not a split, or a patient is in two parts.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such split file; `ctsr split --root ROOT` writes one")
    try:
        document = as_type(parse_json(path.read_bytes()), dict[str, object])
        splits = as_type(document.get("splits"), dict[str, list[dict[str, object]]], "`splits`")
        parts = {name: _patient_ids(splits[name], name) for name in PARTS}
    except KeyError as error:
        raise SplitError(f"{path}: not a split file (no part {error}); `ctsr split --root ROOT` writes one") from error
    except ReadError as error:
        raise SplitError(f"{path}: not a split file ({error}); `ctsr split --root ROOT` writes one") from error
    return Split.from_dict(parts)


def _patient_ids(rows: Iterable[Mapping[str, object]], part: str) -> list[str]:
    # A number where somebody has edited the file: folders may be called so.
    kind = cast("type[str]", int | str)
    return [str(as_type(row.get("patient_id"), kind, f"a `patient_id` of {part}")) for row in rows]


def choose_split(
    patient_ids: Iterable[str],
    *,
    split_json: Path | None = None,
    checkpoint: Mapping[str, Sequence[str]] | None = None,
    folder: Path = Path("splits"),
    seed: int = DEFAULT_SEED,
    together: Sequence[Sequence[str]] = (),
    mix_ups: Sequence[str] = (),
) -> tuple[Split, str]:
    """The split that holds for a root, and where it came from.

    In this order: the file that was named, the checkpoint's, the file in `folder`, a fresh one. A checkpoint that
    knows none of the patients says nothing about them.

    Args:
        patient_ids: the patients of the root that hold usable CT.
        split_json: the file that was asked for, if any.
        checkpoint: the split stored in the model's checkpoint, part → patient ids, if any.
        folder: where `ctsr split` writes.
        seed: of a fresh split, and in the name of the file in `folder`.
        together: groups of patient ids that are one person; see `split_patients`.
        mix_ups: see `split_patients`.

    Raises:
        MissingInputError: `split_json` does not exist, or names a patient that the root does not hold.
        SplitError: the file in `folder` is about other patients.
    """
    present = frozenset(patient_ids)
    checkpoint = None if checkpoint is None else with_names(checkpoint, present)
    if split_json is not None:
        return _present(read_split(split_json), present, str(split_json)), str(split_json)
    if checkpoint is not None and present & (split := Split.from_dict(checkpoint)).patients:
        return _present(split, present, "the checkpoint's split", SPLIT_HINT), "the checkpoint"
    kept = split_file(folder, seed)
    if kept.is_file():
        split = read_split(kept)
        if split.patients != present:
            named = listed(sorted(split.patients ^ present), NAMED)
            raise SplitError(
                f"{kept} names other patients than those in the root ({named}); "
                f"run `ctsr split` for this root, or name a split with `split_json`"
            )
        return split, str(kept)
    strangers = ", as the model's checkpoint knows none of these patients" if checkpoint is not None else ""
    split = split_patients(present, seed, together=together, mix_ups=mix_ups)
    return split, f"a fresh split with seed {seed}{strangers}"


def _present(split: Split, present: frozenset[str], source: str, hint: str = "") -> Split:
    if missing := split.patients - present:
        # A hash tells a reader nothing: patients of models that were passed on are counted.
        named = sorted(patient for patient in missing if patient != pseudonym(patient))
        who = f": {listed(named, NAMED)}" if named else f" ({len(missing)} of {len(split.patients)})"
        raise MissingInputError(f"{source} names patients that are not in the root{who}{hint}")
    return split


@dataclass(frozen=True)
class PatientRow:
    """Row of a patient in a split; where series disagree, the value of the longest."""

    patient_id: str
    path: str
    """Relative to the root where there is one root, else absolute."""
    num_slices: int
    modality: str
    device: str
    rows: int
    columns: int
    slice_thickness_mm: float | None
    pixel_spacing_mm: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """As in the JSON file."""
        row = asdict(self)
        row["cols"] = row.pop("columns")
        return row


def patient_rows(
    patients: Sequence[PatientExams], names: Sequence[str], roots: Sequence[Path]
) -> tuple[PatientRow, ...]:
    """One row for each of `names`, in their order."""
    by_id = {patient.patient_id: patient for patient in patients}
    return tuple(_row(by_id[name], roots) for name in names)


def _row(patient: PatientExams, roots: Sequence[Path]) -> PatientRow:
    longest = max(patient.series, key=lambda series: len(series.slices))
    # Below one root a relative path names a patient; below several it would not say which.
    relative = len(roots) == 1 and patient.path.is_relative_to(roots[0])
    return PatientRow(
        patient_id=patient.patient_id,
        path=(patient.path.relative_to(roots[0]) if relative else patient.path.absolute()).as_posix(),
        num_slices=patient.num_slices,
        modality="CT",
        device=longest.scanner,
        rows=longest.rows,
        columns=longest.columns,
        slice_thickness_mm=longest.slice_thickness,
        pixel_spacing_mm=longest.pixel_spacing,
    )


def _counts(rows: Sequence[PatientRow]) -> dict[str, int]:
    return {"num_patients": len(rows), "total_slices": sum(row.num_slices for row in rows)}


def write_split(path: Path, split: Split, patients: Sequence[PatientExams], roots: Sequence[Path], seed: int) -> None:
    """Write the split as JSON: `meta`, `counts` and `splits`."""
    parts = {name: patient_rows(patients, split.part(name), roots) for name in PARTS}
    document = {
        "meta": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "root": ", ".join(map(str, roots)),
            "seed": seed,
            # A split is computed on the CPU; the fields are those that the scripts of ESRGAN/ have always written.
            "device": "cpu",
            "device_name": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "platform": platform.platform(),
        },
        "counts": {name: _counts(rows) for name, rows in parts.items()},
        "splits": {name: list(map(PatientRow.as_dict, rows)) for name, rows in parts.items()},
    }
    write_json(path, document)
