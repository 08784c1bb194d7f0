"""The one door to OpenVINO, which reports to its makers unless told not to before it is imported."""

import importlib
from functools import cache
from typing import Any

__all__ = ["import_openvino", "openvino_core"]


def import_openvino() -> Any:
    """The module `openvino`, with its telemetry off.

    Raises:
        ImportError: it is not installed.
    """
    _decline()
    return importlib.import_module("openvino")


@cache
def openvino_core() -> Any:
    """The one `openvino.Core` of this process, which lives as long as the process does.

    Every core loads its own CPU plugin, which gives the thread a stack for signals. The first of two that goes frees
    its stack, the second puts that back: the next Ctrl-C would be a segmentation fault.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    return import_openvino().Core()


def _decline() -> None:
    """Answer "no" for the user, in this process; importing OpenVINO asks already, and takes silence for consent."""
    try:
        consent: Any = importlib.import_module("openvino_telemetry.utils.opt_in_checker")
    except ImportError:
        return  # then there is nothing that could send
    consent.OptInChecker.check = lambda *_args, **_kwargs: consent.ConsentCheckResult.DECLINED
