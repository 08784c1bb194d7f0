"""The viewer's only access to networks: SR of one slice, interruptible between layers."""

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ctsr.degrade import DegradationParams
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.models.conditioning import Conditions

Pixels = npt.NDArray[np.float32]


class StaleRequestError(Exception):
    """The result is not needed any more: the page shows something else."""


class InterruptibleModel:
    """A model as a function of slices, one at a time.

    PyTorch networks stop before the next layer. Other engines cannot be stopped within a slice.
    """

    def __init__(self, model: ModelUnderTest) -> None:
        self._model = model
        self._lock = Lock()
        self._is_cancelled: Callable[[], bool] = _never
        for module in model.generator.net.modules():
            if not any(module.children()):
                module.register_forward_pre_hook(self._before_layer)

    @property
    def conditional(self) -> bool:
        """Whether it is told the blur and noise of LR."""
        return self._model.conditional

    def __call__(
        self, lr: Pixels, made_with: DegradationParams | Conditions, is_cancelled: Callable[[], bool]
    ) -> Pixels:
        """SR of one slice, bit-identical to the evaluation's.

        Args:
            lr: (h, w) in [-1, 1].
            made_with: what it was made with, or what a conditional model is to take it for.
            is_cancelled: called before the slice, and before each layer where the engine allows it.

        Returns:
            (scale·h, scale·w) in [-1, 1].

        Raises:
            StaleRequestError: `is_cancelled` returned True.
        """
        with self._lock:
            self._is_cancelled = is_cancelled
            try:
                self._stop_if_cancelled()
                return self._model.super_resolve(torch.from_numpy(lr)[None, None], made_with)[0, 0].numpy()
            finally:
                self._is_cancelled = _never

    def _before_layer(self, _module: nn.Module, _inputs: Any) -> None:
        self._stop_if_cancelled()

    def _stop_if_cancelled(self) -> None:
        if self._is_cancelled():
            raise StaleRequestError


def _never() -> bool:
    return False
