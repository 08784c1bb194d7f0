"""What each command does about each defect of a series: one table, shown as it is in `docs/reading.md`."""

from enum import Enum
from typing import Literal, TypeAlias, get_args

from ctsr.errors import SeriesError
from ctsr.series import DefectKind, Series


class Action(Enum):
    """What a command does about a defect."""

    REFUSE = "refused"
    WARN = "warned about"
    HARMLESS = "harmless"


REFUSE, WARN, FINE = Action.REFUSE, Action.WARN, Action.HARMLESS

Command: TypeAlias = Literal["volume", "preprocess", "split", "train", "evaluate", "view", "upscale"]
COMMANDS: tuple[Command, ...] = get_args(Command)
"""The columns: `volume` is whatever needs the slices as one block (coronal and sagittal views, NIfTI output)."""

POLICY = {
    #                              volume  preproc split   train   evaluate view   upscale
    DefectKind.GAP:                (REFUSE, FINE,   FINE,   FINE,   FINE,   WARN,   WARN),
    DefectKind.DUPLICATE_POSITION: (REFUSE, WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.IRREGULAR_SPACING:  (REFUSE, FINE,   FINE,   FINE,   FINE,   WARN,   WARN),
    DefectKind.GANTRY_TILT:        (REFUSE, FINE,   FINE,   FINE,   FINE,   WARN,   FINE),
    DefectKind.MIXED_GEOMETRY:     (WARN,   WARN,   FINE,   FINE,   FINE,   WARN,   WARN),
    DefectKind.MISSING_RESCALE:    (REFUSE, REFUSE, FINE,   REFUSE, REFUSE, REFUSE, REFUSE),
    DefectKind.DIFFERING_RESCALE:  (WARN,   WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.IMPLAUSIBLE_HU:     (WARN,   REFUSE, FINE,   REFUSE, REFUSE, WARN,   REFUSE),
    DefectKind.SHIFTED_HU:         (FINE,   WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.MISSING_GEOMETRY:   (REFUSE, WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.UNREADABLE_SLICE:   (REFUSE, WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.REPEATED_UID:       (FINE,   REFUSE, FINE,   WARN,   WARN,   FINE,   REFUSE),
    DefectKind.UNSTATED_UNITS:     (WARN,   WARN,   FINE,   WARN,   WARN,   WARN,   WARN),
    DefectKind.LOSSY_COMPRESSION:  (FINE,   FINE,   FINE,   WARN,   WARN,   FINE,   FINE),
    DefectKind.SINGLE_SLICE:       (WARN,   FINE,   FINE,   FINE,   FINE,   FINE,   FINE),
}  # fmt: skip
"""For each defect, what each of `COMMANDS` does about it."""

REMEDY = {
    DefectKind.GAP: "Export the series again, or use it slice by slice",
    DefectKind.DUPLICATE_POSITION: "Put each phase or reconstruction into a folder and series of its own",
    DefectKind.IRREGULAR_SPACING: "Use it slice by slice",
    DefectKind.GANTRY_TILT: "Use it slice by slice, or have the tilt corrected first",
    DefectKind.MISSING_RESCALE: "Pass `assume_hu` if the stored values are HU",
    DefectKind.IMPLAUSIBLE_HU: "Or pass `assume_hu` if they are HU all the same",
    DefectKind.MISSING_GEOMETRY: "Export the series again",
    DefectKind.UNREADABLE_SLICE: "Copy or export the series again",
    DefectKind.REPEATED_UID: "Its slices cannot be told apart; export or anonymise the series again",
}
"""What to do about a defect that is refused."""


def check(series: Series, command: Command, *, assume_hu: bool = False, allow_gaps: bool = False) -> list[str]:
    """List the warnings about a series that `command` has to show, one line each.

    Args:
        series: as the scan found it.
        command: whose column of the table holds.
        assume_hu: a missing rescale, and values that do not look like HU, are warnings.
        allow_gaps: gaps, and slices that cannot be read, are warnings.

    Raises:
        SeriesError: the command cannot use the series; the message names every reason.
    """
    forgiven = {DefectKind.MISSING_RESCALE, DefectKind.IMPLAUSIBLE_HU} if assume_hu else set[DefectKind]()
    if allow_gaps:
        forgiven |= {DefectKind.GAP, DefectKind.UNREADABLE_SLICE, DefectKind.MISSING_GEOMETRY}
    column = COMMANDS.index(command)
    warnings: list[str] = []
    refusals: list[str] = []
    for defect in series.defects:
        action = POLICY[defect.kind][column]
        if action is REFUSE and defect.kind not in forgiven:
            refusals.append(f"{defect.detail}. {REMEDY[defect.kind]}.")
        elif action is not FINE:
            warnings.append(f"{series.path}: {defect.detail}")
    if refusals:
        raise SeriesError(f"{series.path}: {' '.join(refusals)}")
    return warnings
