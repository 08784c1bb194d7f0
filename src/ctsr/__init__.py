"""CT super-resolution, from DICOM to DICOM."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def view(subject: Any, **options: Any) -> Any:
    """Look at a `Volume`, a patient's folder or a NIfTI file in a notebook; see `ctsr.viewer.notebook.show`."""
    # By name: every room imports this one, and it may not import them back.
    return import_module("ctsr.viewer.notebook").show(subject, **options)
