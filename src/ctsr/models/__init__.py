"""Networks, and reading their hyper-parameters off their weights."""

from ctsr.models.architecture import Architecture, StateDict, build, describe, load_state, receptive_radius

__all__ = ["Architecture", "StateDict", "build", "describe", "load_state", "receptive_radius"]
