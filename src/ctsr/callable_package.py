"""Packages that are called as the function of their name: `ctsr.upscale(volume)` beside `ctsr.upscale.tuning`."""

import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


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
