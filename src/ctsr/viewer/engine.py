"""The one place where the viewer asks a network: whole slices, given up at once when nobody wants them any more."""

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ctsr.infer import super_resolve

__all__ = ["Engine", "UnwantedError"]

Slice = npt.NDArray[np.float32]


class UnwantedError(Exception):
    """The slice that was being computed is not wanted any more."""


class Engine:
    """A network as a function of slices; one at a time."""

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._lock = Lock()
        self._unwanted: Callable[[], bool] = _never
        for module in net.modules():
            if not any(module.children()):
                module.register_forward_pre_hook(self._look_up)

    def __call__(self, lr: Slice, unwanted: Callable[[], bool]) -> Slice:
        """SR of one slice, with the digits of `infer.super_resolve`.

        Args:
            lr: (h, w) in [-1, 1].
            unwanted: asked before each layer.

        Returns:
            (scale·h, scale·w) in [-1, 1].

        Raises:
            UnwantedError: `unwanted` said so.
        """
        with self._lock:
            self._unwanted = unwanted
            try:
                return super_resolve(self._net, torch.from_numpy(lr)[None, None])[0, 0].numpy()
            finally:
                self._unwanted = _never

    def _look_up(self, module: nn.Module, inputs: Any) -> None:
        del module, inputs
        if self._unwanted():
            raise UnwantedError


def _never() -> bool:
    return False
