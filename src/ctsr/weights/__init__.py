"""Weights of other people's networks: where they come from, whose they are, and where they are kept."""

from ctsr.weights.cache import default_cache, load_weights, weights_path
from ctsr.weights.download import fetch
from ctsr.weights.table import WEIGHTS, Source, Weights

__all__ = ["WEIGHTS", "Source", "Weights", "default_cache", "fetch", "load_weights", "weights_path"]
