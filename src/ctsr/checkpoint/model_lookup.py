"""Model references: what a user may write as `model_path`, and the file that it means."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ctsr
from ctsr.checkpoint.files import PACKED
from ctsr.documents import as_type, parse_json
from ctsr.errors import MissingInputError, ReadError, UsageError
from ctsr.files import STAMP
from ctsr.paths import FoundPath, native_path, search_path

BEST, LAST = "best.pth", "last.pth"
"""The two checkpoints of a run folder."""
VALIDATION_JSON = "validation.json"
"""In the folder of a run with L1: how its best epoch compares with interpolation on the validation slices."""
RUN_FOLDERS = (Path("runs"), Path("finetune_outputs"))
"""Where runs are looked for: each folder may be a run itself, and hold runs."""
ANY_RUN = "rrdb_ct"
"""The experiment name of every run that was trained with L1, in `rrdb_ct_best.pth`."""
FINETUNED = "finetune"
"""How the experiments of fine-tuned generators begin; all others were trained with L1."""

EXPERIMENT_FILE = re.compile(r"(?P<experiment>.+)_(?P<which>best|last)(?:\.pth)?|(?P<bare>[^.]+)")
STAMPED = re.compile(r"(?P<experiment>.+)_(?P<stamp>\d{8}-\d{6})")
"""The name of a run's folder."""

FOLDER = Path(ctsr.__file__).parent / "bundled"
IDENTITIES = FOLDER / "identities.json"
"""Hashes of the studies and patients of the training part of every bundled model, as `recipes/identities.py` wrote
them."""

WITHDRAWN = {"ctsr-x2-sharp": "use ctsr-x2 with `strength` strong, which `ctsr upscale` takes"}
"""Models that came with earlier versions, and what takes their place."""


@dataclass(frozen=True)
class Resolved:
    """The checkpoint that is meant."""

    path: Path
    note: str = ""
    """For the user: what was chosen and why, in a second line what it is weak in. Empty where the reference was simply
    a file."""


@dataclass(frozen=True)
class _Candidate:
    """A checkpoint file of a run."""

    file: Path
    time: float
    """When the run started, by its name, or when the file was written; seconds since the epoch."""


@dataclass(frozen=True)
class _Asked:
    """A name taken for that of an experiment, with or without ``_best.pth``."""

    experiment: str | None
    """None where the name cannot be one."""
    file_name: str

    @classmethod
    def read(cls, name: str) -> "_Asked":
        if not (match := EXPERIMENT_FILE.fullmatch(name)):
            return cls(None, BEST)
        return cls(match["experiment"] or match["bare"], LAST if match["which"] == "last" else BEST)

    def __str__(self) -> str:
        return "any degradation, trained with L1" if self.experiment == ANY_RUN else f"experiment {self.experiment}"


def resolve_model(
    reference: str | None,
    *,
    runs: Sequence[Path] = RUN_FOLDERS,
    search_root: Path = Path(),
    scale: int | None = None,
    only_l1: bool = False,
    parameter: str = "model_path",
) -> Resolved:
    r"""The checkpoint file that a model reference means.

    Args:
        reference: a file; a run folder (its `best.pth`); a run's name; an experiment file name such as
            `rrdb_x2_blurnoise_best.pth` (newest run of that experiment) or `rrdb_ct_best.pth` (newest with L1); the
            name of a bundled model; None for the newest run, else the bundled model. Paths are read as in
            `ctsr.paths.find_path`.
        runs: folders that hold runs, relative to `search_root`.
        search_root: what relative paths start from.
        scale: of the bundled model, where the reference is None and no run is found.
        only_l1: where the reference is None, pass over runs that were fine-tuned.
        parameter: what holds the reference at the caller, for messages.

    Raises:
        MissingInputError: there is none; the message lists what was looked for and where.
    """
    roots = [search_root / folder for folder in runs]
    if reference is None:
        return _default(roots, scale, only_l1, parameter)
    if found := search_path(reference, base=search_root):
        return _checkpoint_at(found)
    for root in roots:
        if found := search_path(reference, base=root):
            file = _checkpoint_at(found)
            return Resolved(file.path, file.note or f"model: {file.path}")
    if model := BUNDLED.get(reference) or SLICE_MODELS.get(reference):
        return Resolved(model.file, f"model: {reference}, which comes with ctsr")
    if reference in WITHDRAWN:
        raise MissingInputError(f"{reference} no longer comes with ctsr: {WITHDRAWN[reference]}")
    return _newest_of(reference, roots, search_root)


def run_time(folder: Path) -> float | None:
    """Seconds since the epoch at which a run started, by the name of its folder; None if that holds no valid time."""
    if not (match := STAMPED.fullmatch(folder.name)):
        return None
    try:
        return time.mktime(time.strptime(match["stamp"], STAMP))
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True)
class BundledModel:
    """One model of the package; its file says what it is and was trained on."""

    name: str
    scale: int
    licence: str
    """Licence of the weights; the images they were trained on are not part of the package."""

    @property
    def file(self) -> Path:
        """Where its weights are."""
        return FOLDER / f"{self.name}{PACKED}"


BUNDLED: Mapping[str, BundledModel] = {
    model.name: model
    for model in (
        BundledModel("ctsr-x2", 2, "Apache-2.0"),
        BundledModel("ctsr-x2-large", 2, "Apache-2.0"),
        BundledModel("ctsr-x4", 4, "Apache-2.0"),
    )
}
"""Models in plane by name; the first of its scale is used where no run is found."""
SLICE_MODELS: Mapping[str, BundledModel] = {"ctsr-z": BundledModel("ctsr-z", 1, "Apache-2.0")}
"""Models between slices by name."""
DEFAULT_SLICE_MODEL = "ctsr-z"
"""The one that is used where none is named."""


def bundled_for(scale: int | None) -> BundledModel | None:
    """The model that is used where no run is found: the first of that scale, or of all; None where there is none."""
    return next((model for model in BUNDLED.values() if scale in {None, model.scale}), None)


def check_own_folder(model: Path) -> None:
    """Refuse to write beside a bundled model, where nobody named a file: that folder is the installed package's.

    Raises:
        UsageError: the model comes with the package.
    """
    if model.resolve().parent == FOLDER.resolve():
        raise UsageError(
            f"{model.stem} comes with ctsr, whose folder is not for results: name the file to write with `out`, or "
            f"work on a copy, which `ctsr export copy{PACKED} --model_path {model.stem}` makes"
        )


def _default(roots: Sequence[Path], scale: int | None, only_l1: bool, parameter: str) -> Resolved:
    fitting = (c for c in _candidates(roots, BEST) if not (only_l1 and _is_finetuned(c)))
    kind = "L1 run" if only_l1 else "run"
    if newest := max(fitting, key=_age, default=None):
        note = f"model: {newest.file}, the newest {kind} (choose another with `{parameter}`)"
        return Resolved(newest.file, note + _weakness(newest))
    if (first := bundled_for(scale)) is None:
        raise MissingInputError(
            f"there is no {kind} in {_listed(roots)}, and no model for ×{scale} comes with ctsr; "
            f"name one with `{parameter}`"
        )
    return Resolved(
        first.file,
        f"model: {first.name}, which comes with ctsr, as there is no {kind} in {_listed(roots)} "
        f"(choose with `{parameter}`)",
    )


def _checkpoint_at(found: FoundPath) -> Resolved:
    if found.path.is_file():
        return Resolved(found.path, found.note)
    file = found.path / BEST
    if not file.is_file():
        hint = f"; it has {LAST}: name that file to use it" if (found.path / LAST).is_file() else ""
        raise MissingInputError(f"{found.path} holds no {BEST}{hint}")
    return Resolved(file, found.note or f"model: {file}")


def _newest_of(reference: str, roots: Sequence[Path], search_root: Path) -> Resolved:
    path = native_path(reference)
    places = roots
    if path.parent != Path():
        found = search_path(path.parent, base=search_root)
        places = [found.path if found else search_root / path.parent]
    asked = _Asked.read(path.name)
    fitting = [c for c in _candidates(places, asked.file_name, path.name) if _is_of(c, asked.experiment)]
    if newest := max(fitting, key=_age, default=None):
        return Resolved(newest.file, f"model: {newest.file}, the newest run of {asked}" + _weakness(newest))
    and_for = f", and for the {asked.file_name} of {asked}" if asked.experiment else ""
    there = ", ".join(sorted(str(c.file) for c in _candidates(roots, BEST, LAST))) or "none"
    raise MissingInputError(
        f"no model {reference}: looked in {_listed([search_root, *roots])} for a file or run folder of that name"
        f"{and_for}; checkpoints found: {there}; with ctsr come {', '.join((*BUNDLED, *SLICE_MODELS))}"
    )


def _candidates(roots: Sequence[Path], *file_names: str) -> Iterator[_Candidate]:
    """Files of these names in the folders that hold runs, and in the runs."""
    for root in roots:
        folders = [root, *(child for child in sorted(root.iterdir()) if child.is_dir())] if root.is_dir() else []
        for file in (folder / name for folder in folders for name in file_names):
            if file.is_file():
                yield _Candidate(file, run_time(file.parent) or file.stat().st_mtime)


def _is_of(candidate: _Candidate, experiment: str | None) -> bool:
    """A run tells its experiment by its folder's name, its ``<experiment>.json``, or the checkpoint's own name."""
    folder = candidate.file.parent
    stamped = STAMPED.fullmatch(folder.name)
    if experiment == ANY_RUN:  # fine-tuned once more, a fine-tuned one would hold two stages of it
        return not _is_finetuned(candidate)
    return (
        (stamped is not None and stamped["experiment"] == experiment)
        or candidate.file.name not in {BEST, LAST}
        or (folder / f"{experiment}.json").is_file()
    )


def _is_finetuned(candidate: _Candidate) -> bool:
    folder = candidate.file.parent
    return folder.name.startswith(FINETUNED + "_x") or any(folder.glob(f"{FINETUNED}_*.json"))


def _weakness(candidate: _Candidate) -> str:
    """A line more where a run was no better than interpolation on its validation slices; else nothing."""
    file = candidate.file.parent / VALIDATION_JSON
    if not file.is_file():
        return ""
    try:
        found = as_type(parse_json(file.read_bytes()), dict[str, float])
        best, bicubic = found["best_l1"], found["bicubic_l1"]
    except (OSError, KeyError, ReadError):
        return ""
    if best < bicubic:
        return ""
    return (
        f"\nwarning: {candidate.file} is no better than bicubic interpolation on its validation slices "
        f"(L1 {best:.5f}, {bicubic:.5f})"
    )


def _age(candidate: _Candidate) -> tuple[float, str]:
    return candidate.time, str(candidate.file)


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(str(folder.absolute()) for folder in folders)
