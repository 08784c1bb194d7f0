"""Checkpoints: what is in one, saving it whole or not at all, loading foreign ones, finding the one that is meant."""

from ctsr.checkpoint.files import Checkpoint, load_checkpoint, save_checkpoint
from ctsr.checkpoint.generator import Generator, find_generator, load_generator
from ctsr.checkpoint.meta import Meta, Plain, TrainingCard, current_versions
from ctsr.checkpoint.reference import Resolved, resolve_model

__all__ = [
    "Checkpoint",
    "Generator",
    "Meta",
    "Plain",
    "Resolved",
    "TrainingCard",
    "current_versions",
    "find_generator",
    "load_checkpoint",
    "load_generator",
    "resolve_model",
    "save_checkpoint",
]
