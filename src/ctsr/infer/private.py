"""The one door to OpenVINO, which reports to its makers unless told not to before it is imported."""

import importlib
from typing import Any

__all__ = ["import_openvino"]


def import_openvino() -> Any:
    """The module `openvino`, with its telemetry off.

    Raises:
        ImportError: it is not installed.
    """
    _decline()
    return importlib.import_module("openvino")


def _decline() -> None:
    """Answer "no" for the user, in this process; importing OpenVINO asks already, and takes silence for consent."""
    try:
        consent: Any = importlib.import_module("openvino_telemetry.utils.opt_in_checker")
    except ImportError:
        return  # then there is nothing that could send
    consent.OptInChecker.check = lambda *_args, **_kwargs: consent.ConsentCheckResult.DECLINED
