"""The one door to OpenVINO and nncf: both report to their makers unless told not to before they are imported."""

import importlib
from typing import Any

__all__ = ["import_nncf", "import_openvino"]


def import_openvino() -> Any:
    """The module `openvino`, with its telemetry off.

    Raises:
        ImportError: it is not installed.
    """
    _decline()
    return importlib.import_module("openvino")


def import_nncf() -> Any:
    """The module `nncf`, with its telemetry off.

    Raises:
        ImportError: it is not installed.
    """
    _decline()
    return importlib.import_module("nncf")


def _decline() -> None:
    """Answer "no" for the user, in this process; importing OpenVINO asks already, and takes silence for consent."""
    try:
        consent: Any = importlib.import_module("openvino_telemetry.utils.opt_in_checker")
    except ImportError:
        return  # then there is nothing that could send
    consent.OptInChecker.check = lambda *_args, **_kwargs: consent.ConsentCheckResult.DECLINED
