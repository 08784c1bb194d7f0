"""CT super-resolution, from DICOM to DICOM.

`scan`, `read_volume` and `write_series` read and write series; `upscale`, `degrade`, `preprocess`, `evaluate` and
`metrics` take volumes, arrays in HU or folders; `load_model` and `view` take models and show them beside HR.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctsr.api.evaluation import evaluate, metrics
    from ctsr.api.files import read_volume, scan, write_series
    from ctsr.api.images import degrade, preprocess, upscale
    from ctsr.api.models import Model, load_model
    from ctsr.phantom.exams import example_volume
    from ctsr.viewer.embed import view
    from ctsr.volume import Volume

__version__ = "0.1.0"

__all__ = [
    "Model",
    "Volume",
    "degrade",
    "evaluate",
    "example_volume",
    "load_model",
    "metrics",
    "preprocess",
    "read_volume",
    "scan",
    "upscale",
    "view",
    "write_series",
]

_MODULES = {
    "Model": "ctsr.api.models",
    "Volume": "ctsr.volume",
    "example_volume": "ctsr.phantom.exams",
    "load_model": "ctsr.api.models",
    "read_volume": "ctsr.api.files",
    "scan": "ctsr.api.files",
    "view": "ctsr.viewer.embed",
    "write_series": "ctsr.api.files",
}
"""Where names are defined. They are imported when they are first used: PyTorch takes seconds."""
_CALLABLE_PACKAGES = ("degrade", "evaluate", "metrics", "preprocess", "upscale")
"""Functions that share their name with a package; see `ctsr.callable_package`."""


def __getattr__(name: str) -> Any:
    """Import a name of the API when it is first used (PEP 562)."""
    if name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value
    if name in _CALLABLE_PACKAGES:
        return import_module(f"ctsr.{name}")
    raise AttributeError(f"module 'ctsr' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names of the API, for completion."""
    return sorted([*__all__, "__version__"])
