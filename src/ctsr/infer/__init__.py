"""Networks applied to whole slices, by an engine."""

from ctsr.infer.engine import Clocked, Engine, TorchEngine, super_resolve
from ctsr.infer.super_resolver import SuperResolver, by_interpolation, by_network, telling

__all__ = [
    "Clocked",
    "Engine",
    "SuperResolver",
    "TorchEngine",
    "by_interpolation",
    "by_network",
    "super_resolve",
    "telling",
]
