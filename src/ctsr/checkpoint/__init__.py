"""Checkpoints: what is in one, saving it whole or not at all, loading foreign ones, finding the one that is meant."""

from ctsr.checkpoint.checkpoint_io import Checkpoint, load_checkpoint, save_checkpoint
from ctsr.checkpoint.meta import Meta, Plain, TrainingCard, current_versions
from ctsr.checkpoint.model import Model, ModelKind, find_model, load_model, of_kind
from ctsr.checkpoint.model_lookup import Resolved, resolve_model

__all__ = [
    "Checkpoint",
    "Meta",
    "Model",
    "ModelKind",
    "Plain",
    "Resolved",
    "TrainingCard",
    "current_versions",
    "find_model",
    "load_checkpoint",
    "load_model",
    "of_kind",
    "resolve_model",
    "save_checkpoint",
]
