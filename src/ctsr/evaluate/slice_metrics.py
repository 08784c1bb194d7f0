"""Metrics of one slice by every method, on every window and mask; evaluation and viewer share them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ctsr.hu import FEWEST_PIXELS, FloatArray, HURange, MetricWindow, body_mask, tissue_masks
from ctsr.metrics import METRICS, MetricFunction, MetricValue, PerImage

MaskName: TypeAlias = Literal["none", "body"]
Mask: TypeAlias = npt.NDArray[np.bool_]
ImageMetrics: TypeAlias = dict[str, MetricValue]
"""Metric → value, in the order of the columns."""

NO_BODY = "no body in the slice"
LEFT_OUT = "not on this slice (`ma_every`)"
NO_PI = "NIQE or MA is missing"


@dataclass(frozen=True)
class Domain:
    """Where metrics are computed: HU through a window, on the whole image or on the body alone."""

    window: MetricWindow
    mask: MaskName = "none"

    @property
    def tag(self) -> str:
        """`globalHU_-1000_2000`, `preset-lung_body`."""
        return self.window.tag if self.mask == "none" else f"{self.window.tag}_{self.mask}"

    @property
    def text(self) -> str:
        """Window with its tag, and mask: `globalHU_-1000_2000 (C 500, W 3000 HU)`, for messages that name files."""
        return self.window.text if self.mask == "none" else f"{self.window.text}, {self.mask} only"

    @property
    def title(self) -> str:
        """Window and mask in words: `HU −1000 … 2000`, `soft tissue, C 40 W 400 HU, body only`."""
        window, tag = self.window.window, self.window.tag
        if tag.startswith("globalHU"):
            low, high = window.center - window.width / 2, window.center + window.width / 2
            text = f"HU {low:g} … {high:g}"
        else:
            name = tag.removeprefix("preset-").replace("_", " ") + ", " if tag.startswith("preset-") else ""
            text = f"{name}C {window.center:g} W {window.width:g} HU"
        return (text if self.mask == "none" else f"{text}, {self.mask} only").replace("-", "−")


@dataclass(frozen=True)
class MetricEvaluator:
    """Computes the metrics of images against their reference."""

    hu_range: HURange
    """HU range of the models; metrics in HU are computed on both images clipped to it."""
    domains: Sequence[Domain]
    metrics: Sequence[str]
    """Names from `METRICS`, in their order."""
    perceptual: Mapping[str, MetricFunction] = field(default_factory=dict[str, MetricFunction])
    """Functions of LPIPS, NIQE and, unless PI is NIQE alone, MA."""
    pi_with_ma: bool = False
    """PI is computed from MA and NIQE; from NIQE alone otherwise."""

    def __call__(
        self, images: Tensor, hr_hu: FloatArray, leave_out: frozenset[str] = frozenset()
    ) -> dict[Domain, list[ImageMetrics]]:
        """Compute every metric of each image, by domain.

        Args:
            images: ``(N, 1, H, W)`` in [-1, 1].
            hr_hu: the reference, (H, W) in HU, not clipped: HU beyond the models' range but inside the window count
                as an error.
            leave_out: metrics that are not computed on this slice.
        """
        reference = hr_hu.astype(np.float64)[None, None]
        images_hu = self.hu_range.to_hu(images.detach().cpu().double().numpy())
        wanted: set[MaskName] = {domain.mask for domain in self.domains}
        masks = {name: _mask(name, hr_hu) for name in wanted}
        in_hu = {name: self._in_hu(images_hu, reference, mask) for name, mask in masks.items()}
        by_tissue = self._by_tissue(images_hu, reference)
        found: dict[Domain, list[ImageMetrics]] = {}
        for domain in self.domains:
            windowed = self._windowed(images_hu, reference, domain, masks[domain.mask], leave_out)
            columns = windowed | in_hu[domain.mask] | by_tissue
            found[domain] = [self._of_image(columns, i) for i in range(len(images))]
        return found

    def _of_image(self, columns: Mapping[str, PerImage], i: int) -> ImageMetrics:
        return {name: columns[name][i] for name in self.metrics}

    def _windowed(
        self,
        images_hu: FloatArray,
        reference: FloatArray,
        domain: Domain,
        mask: Mask | None,
        leave_out: frozenset[str],
    ) -> dict[str, PerImage]:
        """Metrics on [0, 1]: on the pixels of the mask, or on its bounding box for metrics of neighbourhoods."""
        window, count = domain.window.window, len(images_hu)
        names = [name for name in self.metrics if METRICS[name].input_scale == "window" and name != "PI"]
        if mask is not None and not mask.any():
            return {name: _missing(NO_BODY, count) for name in (*names, "PI")}
        image, target = window.to_01(images_hu), window.to_01(reference)
        pixels = _tensor(_pixels(image, mask)), _tensor(_pixels(target, mask))
        box = _tensor(_boxed(image, mask)), _tensor(_boxed(target, mask))
        found: dict[str, PerImage] = {}
        for name in names:
            function = METRICS[name].function or self.perceptual[name]
            pair = pixels if METRICS[name].pixelwise else box
            found[name] = _missing(LEFT_OUT, count) if name in leave_out else function(*pair)
        if "PI" in self.metrics:
            found["PI"] = self._index(found, leave_out)
        return found

    def _index(self, found: Mapping[str, PerImage], leave_out: frozenset[str]) -> PerImage:
        """Perceptual index (Blau et al., PIRM 2018), of the same kind in all rows."""
        if not self.pi_with_ma:
            return found["NIQE"]
        if "MA" in leave_out:
            return _missing(LEFT_OUT, len(found["MA"]))
        return tuple(
            MetricValue(None, NO_PI)
            if ma.value is None or niqe.value is None
            else MetricValue(((10 - ma.value) + niqe.value) / 2)
            for ma, niqe in zip(found["MA"], found["NIQE"], strict=True)
        )

    def _in_hu(self, images_hu: FloatArray, reference: FloatArray, mask: Mask | None) -> dict[str, PerImage]:
        names = [name for name in self.metrics if METRICS[name].group == "hu"]
        if mask is not None and not mask.any():
            return {name: _missing(NO_BODY, len(images_hu)) for name in names}
        return self._on_pixels(names, images_hu, reference, mask)

    def _by_tissue(self, images_hu: FloatArray, reference: FloatArray) -> dict[str, PerImage]:
        names = [name for name in self.metrics if METRICS[name].tissue]
        masks = tissue_masks(reference[0, 0]) if names else {}
        found: dict[str, PerImage] = {}
        for tissue, mask in masks.items():
            own = [name for name in names if METRICS[name].tissue == tissue]
            if np.count_nonzero(mask) < FEWEST_PIXELS:
                found |= {name: _missing(f"no {tissue}", len(images_hu)) for name in own}
            else:
                found |= self._on_pixels(own, images_hu, reference, mask)
        return found

    def _on_pixels(
        self,
        names: Sequence[str],
        images_hu: FloatArray,
        reference: FloatArray,
        mask: Mask | None,
    ) -> dict[str, PerImage]:
        low, high = self.hu_range.low, self.hu_range.high
        image = _tensor(np.clip(_pixels(images_hu, mask), low, high))
        target = _tensor(np.clip(_pixels(reference, mask), low, high))
        functions = {name: METRICS[name].function for name in names}
        return {name: function(image, target) for name, function in functions.items() if function}


def _mask(name: MaskName, hr_hu: FloatArray) -> Mask | None:
    """None for the whole image."""
    return body_mask(hr_hu) if name == "body" else None


def _pixels(image: FloatArray, mask: Mask | None) -> FloatArray:
    """Pixels of the mask in one row: (N, 1, H, W) → (N, 1, 1, pixels)."""
    return image if mask is None else image[..., mask][:, :, None]


def _boxed(image: FloatArray, mask: Mask | None) -> FloatArray:
    """The bounding box of the mask in (N, 1, H, W)."""
    if mask is None:
        return image
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return image[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _missing(reason: str, count: int) -> PerImage:
    return (MetricValue(None, reason),) * count


def _tensor(image: FloatArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float64))
