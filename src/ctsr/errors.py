"""Named errors. Each message is one line: what is wrong, where, and what to do about it."""

__all__ = [
    "CheckpointError",
    "CtsrError",
    "DomainError",
    "MissingInputError",
    "ReadError",
    "SeriesError",
    "SplitError",
    "UsageError",
]


class CtsrError(Exception):
    """Anything a user can put right. The command line prints it without a traceback and exits with 1."""


class DomainError(CtsrError):
    """A value outside what the quantity allows: an empty HU range, a size not divisible by the scale.

    Such values come from flags: the command line exits with 2.
    """


class MissingInputError(CtsrError, FileNotFoundError):
    """A file, folder, patient or model that was asked for is not there; the message lists where it was looked for."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ReadError(CtsrError):
    """One file cannot be decoded or does not say what it must (pixels, rescale, geometry)."""


class SeriesError(CtsrError):
    """The slices of a series do not make the volume that was asked for."""


class SplitError(CtsrError):
    """Patients cannot be split as asked, or parts of a split overlap."""


class CheckpointError(CtsrError):
    """A checkpoint is damaged, needs code to load, or does not fit the network."""


class UsageError(CtsrError):
    """A flag that cannot be what it says, or contradicts another. The command line exits with 2."""
