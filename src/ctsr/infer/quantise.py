"""Models without a twin in 8-bit integers: calibrated by nncf, the layers that cost most accuracy left in fp32."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ctsr.digests import digest
from ctsr.files import atomic_folder
from ctsr.infer.cache import default_cache, weights_hash
from ctsr.infer.calibration import Calibration
from ctsr.infer.openvino_engine import MODEL_XML, convert
from ctsr.infer.private import import_nncf, import_openvino
from ctsr.models.architecture import TRUNKS

__all__ = ["outside_trunk", "quantised"]

RECIPE = 1
"""Counted up when networks are quantised in another way."""

TRACED = "__module."
"""What the name of an operation begins with, before that of the part of the network that it comes from."""


def quantised(net: nn.Module, calibration: Calibration, cache: Path | None = None) -> Path:
    """The network in INT8 as OpenVINO's `model.xml`, made when it is not in the cache yet.

    Only the trunk is quantised. The first convolution, and everything after the trunk, stay in fp32: there an
    error reaches the image undiminished, and they are a small part of the work. The mean error that is left on the
    calibration images is taken off the result.

    Args:
        net: maps ``(N, 1, h, w)`` to ``(N, 1, s·h, s·w)``; on the CPU.
        calibration: the images whose activations set the scales.
        cache: folder of converted networks; the user's when None.
    """
    openvino, nncf = import_openvino(), import_nncf()
    versions = f"{openvino.__version__} {nncf.__version__}"
    key = digest(RECIPE, weights_hash(net), type(net).__name__, versions, calibration.key).hex()
    folder = (cache or default_cache()) / f"{key}-int8"
    if not (folder / MODEL_XML).is_file():
        model = _quantise(convert(net), list(calibration()))
        with atomic_folder(folder) as part:
            openvino.save_model(model, part / MODEL_XML, compress_to_fp16=False)
    return folder / MODEL_XML


def _quantise(model: Any, images: list[npt.NDArray[np.float32]]) -> Any:
    nncf = import_nncf()
    nncf.set_log_level("ERROR")
    exact = _means(model, images)
    with redirect_stdout(StringIO()):  # nncf draws bars of its own
        fast = nncf.quantize(
            model.clone(),
            nncf.Dataset(images),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=outside_trunk(model)),
        )
    return _shifted(fast, float(np.mean(exact - _means(fast, images))))


def outside_trunk(model: Any) -> list[str]:
    """Names of the convolutions outside the trunk."""
    convolutions = (one for one in model.get_ordered_ops() if one.get_type_name() == "Convolution")
    names = (str(one.get_friendly_name()) for one in convolutions)
    return [name for name in names if not name.removeprefix(TRACED).startswith(TRUNKS)]


def _means(model: Any, images: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
    """The mean of the network's answer to each image."""
    run = import_openvino().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array([np.clip(run([image])[0], -1, 1).mean(dtype=np.float64) for image in images])


def _shifted(model: Any, by: float) -> Any:
    """The same network, with a constant added to its answer."""
    openvino = import_openvino()
    answer = model.output(0).get_node().input_value(0)
    moved = openvino.opset13.add(answer, openvino.opset13.constant(np.array(by, np.float32)))
    return openvino.Model([moved], model.get_parameters(), "int8")
