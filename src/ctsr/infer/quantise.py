"""Networks in 8-bit integers: calibrated by nncf, the layers that cost most accuracy left in fp32."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ctsr.digests import digest
from ctsr.files import atomic_folder
from ctsr.infer.cache import default_cache, weights_hash
from ctsr.infer.openvino_engine import MODEL_XML, convert
from ctsr.infer.private import import_nncf, import_openvino

__all__ = ["Calibration", "quantised"]

RECIPE = 1
"""Counted up when networks are quantised in another way."""

Calibration = Callable[[], Sequence[npt.NDArray[np.float32]]]
"""Gives LR images, ``(1, 1, h, w)`` in [-1, 1]; called only where nothing is in the cache."""


def quantised(net: nn.Module, calibration: Calibration, cache: Path | None = None) -> Path:
    """The network in INT8 as OpenVINO's `model.xml`, made when it is not in the cache yet.

    The first and the last convolution, and the sum that brings the trunk's input past it, stay in fp32: there an error
    reaches the image undiminished.

    Args:
        net: maps ``(N, 1, h, w)`` to ``(N, 1, s·h, s·w)``; on the CPU.
        calibration: the images whose activations set the scales.
        cache: folder of converted networks; the user's when None.
    """
    openvino, nncf = import_openvino(), import_nncf()
    key = digest(RECIPE, weights_hash(net), type(net).__name__, str(openvino.__version__), str(nncf.__version__)).hex()
    folder = (cache or default_cache()) / f"{key}-int8"
    if not (folder / MODEL_XML).is_file():
        model = _quantise(convert(net), list(calibration()))
        with atomic_folder(folder) as part:
            openvino.save_model(model, part / MODEL_XML, compress_to_fp16=False)
    return folder / MODEL_XML


def _quantise(model: Any, images: list[npt.NDArray[np.float32]]) -> Any:
    nncf = import_nncf()
    nncf.set_log_level("ERROR")
    return nncf.quantize(
        model,
        nncf.Dataset(images),
        subset_size=len(images),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=_delicate(model)),
    )


def _delicate(model: Any) -> list[str]:
    """Names of the operations that stay in fp32."""
    operations = [(str(one.get_type_name()), str(one.get_friendly_name())) for one in model.get_ordered_ops()]
    convolutions = [name for kind, name in operations if kind == "Convolution"]
    return [convolutions[0], convolutions[-1]]
