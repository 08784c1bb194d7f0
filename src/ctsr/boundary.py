"""Boundaries around a file, a series or a patient: any failure inside becomes one line, and the others go on."""

from collections.abc import Generator
from contextlib import contextmanager

from ctsr.errors import CtsrError, ReadError
from ctsr.text import one_line

PASSED_ON = (KeyboardInterrupt, SystemExit, GeneratorExit, BrokenPipeError)
"""Exceptions that end the program or a generator rather than tell of a damaged file."""


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
        ReadError: something that is no `CtsrError` was raised inside.
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
