"""Checks for detail that LR does not support, and for detail that was lost."""

from ctsr.hallucination.consistency import Consistency, ResidualPatch, consistency, residual_hu
from ctsr.hallucination.lesions import Lesion, LesionSpec, contrast_of, insert
from ctsr.hallucination.sfrc import SFRC, FlaggedPatch, SFRCSettings, frc_curve, sfrc
from ctsr.hallucination.study import (
    HallucinationSettings,
    HallucinationStudy,
    MethodSummary,
    NamedPair,
    SliceChecks,
    check_slice,
    study,
)
from ctsr.hallucination.trials import LesionImages, LesionRow, LesionTrial, lesion_images, lesion_table, lesion_trials

__all__ = [
    "SFRC",
    "Consistency",
    "FlaggedPatch",
    "HallucinationSettings",
    "HallucinationStudy",
    "Lesion",
    "LesionImages",
    "LesionRow",
    "LesionSpec",
    "LesionTrial",
    "MethodSummary",
    "NamedPair",
    "ResidualPatch",
    "SFRCSettings",
    "SliceChecks",
    "check_slice",
    "consistency",
    "contrast_of",
    "frc_curve",
    "insert",
    "lesion_images",
    "lesion_table",
    "lesion_trials",
    "residual_hu",
    "sfrc",
    "study",
]
