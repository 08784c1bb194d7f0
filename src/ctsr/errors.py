"""Named errors, and the boundaries around a file, a series or a patient where any failure becomes one line.

Each message is one line: what is wrong, where, and what to do about it.
"""

from collections.abc import Generator
from contextlib import contextmanager

from ctsr.reporting import one_line

PASSED_ON = (KeyboardInterrupt, SystemExit, GeneratorExit, BrokenPipeError)
"""Exceptions that end the program or a generator rather than tell of a damaged file."""


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


class DiskFullError(CtsrError, OSError):
    """A file cannot be written because there is no room for it."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class UsageError(CtsrError):
    """A flag that cannot be what it says, or contradicts another. The command line exits with 2."""


@contextmanager
def boundary(what: str, remedy: str = "") -> Generator[None]:
    """Turn any failure inside the block into a `ReadError` of one line.

    Decoders written in Rust panic with exceptions that derive from BaseException alone, and pydicom, nibabel and NumPy
    raise nearly every built-in exception on damaged files: a list of types would always lack one. Errors of ours are
    one line already and pass unchanged.

    Args:
        what: the file, series or patient; begins the message.
        remedy: what to do; ends the message.

    Raises:
        ReadError: an exception other than a `CtsrError` was raised inside.
    """
    try:
        yield
    except (*PASSED_ON, CtsrError):
        raise
    except BaseException as error:
        message = f"{what}: {failure_text(error)}"
        raise ReadError(f"{message}; {remedy}" if remedy else message) from error


def failure_text(error: BaseException) -> str:
    """Describe an error in one line, with its type where it is not one of ours."""
    if isinstance(error, CtsrError):
        return one_line(error)
    if isinstance(error, OSError):
        return one_line(error.strerror or error)
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    words = one_line(error)
    return f"{words} ({type(error).__name__})" if words else type(error).__name__
