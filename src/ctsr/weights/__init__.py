"""Pretrained weights of third-party networks: sources and licences, download, cache."""

from ctsr.weights.cache import default_cache, fetch, load_weights, weights_path
from ctsr.weights.table import WEIGHTS, Source, Weights

__all__ = ["WEIGHTS", "Source", "Weights", "default_cache", "fetch", "load_weights", "weights_path"]
