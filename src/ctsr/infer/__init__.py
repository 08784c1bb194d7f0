"""A network applied to whole slices, by PyTorch or a faster engine; and slices in HU made finer with it."""

from ctsr.infer.engine import Clocked, Engine, TorchEngine
from ctsr.infer.resolver import SuperResolver, by_interpolation, by_network
from ctsr.infer.slices import super_resolve

__all__ = ["Clocked", "Engine", "SuperResolver", "TorchEngine", "by_interpolation", "by_network", "super_resolve"]
