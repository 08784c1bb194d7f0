"""Translate the library's messages for the command line: fields become flags."""

import re

FIELDS = frozenset(
    {
        "allow_gaps",
        "allow_train_patients",
        "alphas",
        "antialias_clean",
        "assume_hu",
        "baselines",
        "blur_kernel",
        "blur_sigma_range",
        "cache_mb",
        "conditions",
        "dask",
        "deg_seed",
        "deg_seed_mode",
        "degradation",
        "degradation_sampling",
        "denoise",
        "device",
        "dose_factor_range",
        "downsampling",
        "engine",
        "eval_summary",
        "format",
        "host",
        "hallucination",
        "hu_offset",
        "hu_scale",
        "index",
        "jobs",
        "limit_noise",
        "ma_every",
        "mask",
        "max_memory",
        "max_patients",
        "max_slices_per_patient",
        "metrics",
        "model_path",
        "noise_cutoff_range",
        "noise_model",
        "noise_sigma_range_norm",
        "noise_skew",
        "out_dir",
        "overwrite",
        "patch_size",
        "physics",
        "port",
        "precision",
        "scale",
        "seed",
        "sharpen",
        "slices",
        "split",
        "split_json",
        "strength",
        "study_slices",
        "target_spacing",
        "window_center",
        "window_width",
        "workers",
    }
)
"""Arguments of library functions that errors name in backticks, and that have a flag of the same name."""
OTHER_NAMES = {"noise_sigma_range": "noise_sigma_range_norm"}
"""Arguments whose flag has another name."""


def with_flags(message: str) -> str:
    """Write arguments in backticks as flags; other words in backticks stay as they are.

    `` `assume_hu` `` and `` `assume_hu=True` `` become ``--assume_hu``, `` `limit_noise=False` ``
    ``--no_limit_noise``, `` `format=nifti` `` ``--format nifti``.
    """
    return re.sub(r"`(\w+)(?:=([^`\s]+))?`", _flag, message)


def _flag(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    if name not in FIELDS and name not in OTHER_NAMES:
        return match[0]
    name = OTHER_NAMES.get(name, name)
    if value == "False":
        return f"--no_{name}"
    return f"--{name}" if value in {None, "True"} else f"--{name} {value}"
