"""CT super-resolution, from DICOM to DICOM.

`scan`, `read_volume` and `write_series` read and write series; `upscale`, `degrade`, `preprocess`, `evaluate` and
`metrics` take volumes, arrays in HU or folders; `load_model` and `view` take models and show them beside HR.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctsr.api.evaluation import evaluate, metrics
    from ctsr.api.files import read_volume, scan, write_series
    from ctsr.api.images import degrade, preprocess, upscale
    from ctsr.api.models import Model, load_model
    from ctsr.phantom import example_volume
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
    "example_volume": "ctsr.phantom",
    "load_model": "ctsr.api.models",
    "read_volume": "ctsr.api.files",
    "scan": "ctsr.api.files",
    "view": "ctsr.viewer.embed",
    "write_series": "ctsr.api.files",
}
"""Where names are defined. They are imported when they are first used: PyTorch takes seconds."""
_CALLABLE_PACKAGES = ("degrade", "evaluate", "metrics", "preprocess", "upscale")
"""Functions that share their name with a package; see `CallablePackage`."""


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


class CallablePackage(ModuleType):
    """A package that stands for a function, which is imported when it is called or asked for its documentation.

    Importing a submodule binds the package's name in its parent, so a function of that name could not stay there.
    """

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """The function; `inspect.unwrap` and notebooks find it here."""
        module, _, name = self.__dict__["_called"].partition(":")
        return getattr(importlib.import_module(module), name)

    @property
    def __signature__(self) -> inspect.Signature:
        """That of the function."""
        return inspect.signature(self.__wrapped__)

    def getdoc(self) -> str:
        """Docstring of the function: what IPython shows for ``ctsr.upscale?``."""
        return inspect.getdoc(self.__wrapped__) or ""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.__wrapped__(*args, **kwargs)


def make_callable(package: str, function: str) -> None:
    """Let a package be called.

    Args:
        package: its name, of the package that is being imported.
        function: ``module:name`` of the function.
    """
    module = sys.modules[package]
    module.__dict__["_called"] = function
    module.__class__ = CallablePackage
