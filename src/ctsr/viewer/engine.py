"""The one place where the viewer asks a network: whole slices, given up at once when nobody wants them any more."""

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ctsr.evaluate.methods import ModelUnderTest
from ctsr.infer import super_resolve

__all__ = ["Engine", "UnwantedError"]

Slice = npt.NDArray[np.float32]


class UnwantedError(Exception):
    """The slice that was being computed is not wanted any more."""


class Engine:
    """A model as a function of slices; one at a time.

    PyTorch is asked to give up before each layer. What else runs the network cannot be stopped in a slice.
    """

    def __init__(self, model: ModelUnderTest) -> None:
        self._network = model.network
        self._lock = Lock()
        self._unwanted: Callable[[], bool] = _never
        for module in model.generator.net.modules():
            if not any(module.children()):
                module.register_forward_pre_hook(self._look_up)

    def __call__(self, lr: Slice, unwanted: Callable[[], bool]) -> Slice:
        """SR of one slice, with the digits of `infer.super_resolve`.

        Args:
            lr: (h, w) in [-1, 1].
            unwanted: asked before the slice, and before each layer where the engine can.

        Returns:
            (scale·h, scale·w) in [-1, 1].

        Raises:
            UnwantedError: `unwanted` said so.
        """
        with self._lock:
            self._unwanted = unwanted
            try:
                self._give_up()
                return super_resolve(self._network, torch.from_numpy(lr)[None, None])[0, 0].numpy()
            finally:
                self._unwanted = _never

    def _look_up(self, module: nn.Module, inputs: Any) -> None:
        del module, inputs
        self._give_up()

    def _give_up(self) -> None:
        if self._unwanted():
            raise UnwantedError


def _never() -> bool:
    return False
