"""What runs a network: the protocol that every engine keeps, and PyTorch's."""

import copy
import time
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from ctsr.errors import UsageError

__all__ = ["Clocked", "Engine", "EngineName", "Precision", "TorchEngine"]

EngineName: TypeAlias = Literal["auto", "torch", "openvino"]
Precision: TypeAlias = Literal["fp32", "int8", "fp16"]


class Engine(Protocol):
    """A network ready to run."""

    @property
    def name(self) -> str:
        """For people, run.json and UIDs: `torch fp32`. Engines of one name give the same result to rounding."""
        ...

    def __call__(self, lr: Tensor) -> Tensor:
        """The network's answer to one slice.

        Args:
            lr: ``(1, 1, h, w)`` in [-1, 1], float32; ``(1, 3, h, w)`` for a conditional network, see
                `ctsr.models.conditioning`.

        Returns:
            ``(1, 1, s·h, s·w)``, float32, not clipped, on any device.
        """
        ...


class Clocked:
    """An engine that keeps the time which another one's answers take."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.seconds = 0.0

    @property
    def name(self) -> str:
        """The other's."""
        return self._engine.name

    def __call__(self, lr: Tensor) -> Tensor:
        """See `Engine`."""
        started = time.perf_counter()
        answer = self._engine(lr).cpu()  # waits for a GPU
        self.seconds += time.perf_counter() - started
        return answer


class TorchEngine:
    """PyTorch where the network's weights are, in channels-last layout.

    Args:
        net: maps ``(N, 1, h, w)`` in [-1, 1] to ``(N, 1, s·h, s·w)``; used in evaluation mode and left in its own.
        precision: `fp32`, or `fp16` on a GPU.

    Raises:
        UsageError: another precision, or `fp16` on a CPU, where it is slower than fp32.
    """

    def __init__(self, net: nn.Module, precision: Precision = "fp32") -> None:
        self._device = next(net.parameters()).device
        if precision == "int8":
            raise UsageError("PyTorch has no int8 here; OpenVINO has")
        if precision == "fp16" and self._device.type == "cpu":
            raise UsageError("`precision` fp16 is for GPUs; on a CPU choose fp32, or int8 with `engine` openvino")
        self._precision: Precision = precision
        self._net = copy.deepcopy(net).half() if precision == "fp16" else net

    @property
    def name(self) -> str:
        """`torch fp32`, and the kind of device where it is no CPU."""
        device = "" if self._device.type == "cpu" else f" {self._device.type}"
        return f"torch {self._precision}{device}"

    @torch.inference_mode()
    def __call__(self, lr: Tensor) -> Tensor:
        """See `Engine`."""
        kind = torch.float16 if self._precision == "fp16" else torch.float32
        was_training = self._net.training
        self._net.eval()
        try:
            return self._net(lr.to(self._device, kind, memory_format=torch.channels_last)).float()
        finally:
            self._net.train(was_training)
