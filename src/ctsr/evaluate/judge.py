"""The numbers of one slice on every domain that was asked for: the same for evaluation and viewer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ctsr.body_mask import body_mask
from ctsr.evaluate.window import MetricWindow
from ctsr.hu import HURange
from ctsr.metrics import METRICS, MetricFunction, MetricValue, PerImage
from ctsr.tissue import FEWEST_PIXELS, tissue_masks

__all__ = ["Domain", "Judge", "MaskName", "Measured"]

MaskName: TypeAlias = Literal["none", "body"]
Mask: TypeAlias = npt.NDArray[np.bool_]
Measured: TypeAlias = dict[str, MetricValue]
"""Metric → value, in the order of the columns."""

NO_BODY = "no body in the slice"
LEFT_OUT = "not on this slice (--ma_every)"
NO_PI = "NIQE or MA is missing"


@dataclass(frozen=True)
class Domain:
    """Where metrics are taken: HU through a window, on the whole image or on the body alone."""

    window: MetricWindow
    mask: MaskName = "none"

    @property
    def tag(self) -> str:
        """`globalHU_-1000_2000`, `preset-lung_body`."""
        return self.window.tag if self.mask == "none" else f"{self.window.tag}_{self.mask}"

    @property
    def text(self) -> str:
        """For people: window and mask."""
        return self.window.text if self.mask == "none" else f"{self.window.text}, {self.mask} only"


@dataclass(frozen=True)
class Judge:
    """Measures images against their reference."""

    hu_range: HURange
    """The models': metrics in HU are taken on both images clipped to it."""
    domains: Sequence[Domain]
    metrics: Sequence[str]
    """Names from `METRICS`, in their order."""
    learned: Mapping[str, MetricFunction] = field(default_factory=dict[str, MetricFunction])
    """What computes the metrics that need weights: LPIPS, NIQE and, unless PI is NIQE, MA."""
    pi_with_ma: bool = False
    """PI is made of MA and NIQE; of NIQE alone otherwise."""

    def __call__(
        self, images: Tensor, hr_hu: npt.NDArray[np.floating], leave_out: frozenset[str] = frozenset()
    ) -> dict[Domain, list[Measured]]:
        """Every metric of each image, by domain.

        Args:
            images: ``(N, 1, H, W)`` in [-1, 1].
            hr_hu: the reference, (H, W) in HU, not clipped: what lies beyond the models' range but inside the window
                counts as the error it is.
            leave_out: metrics that this slice is to go without.
        """
        reference = hr_hu.astype(np.float64)[None, None]
        shown = self.hu_range.to_hu(images.detach().cpu().double().numpy())
        wanted: set[MaskName] = {domain.mask for domain in self.domains}
        masks = {name: _mask(name, hr_hu) for name in wanted}
        in_hu = {name: self._in_hu(shown, reference, mask) for name, mask in masks.items()}
        by_tissue = self._by_tissue(shown, reference)
        found: dict[Domain, list[Measured]] = {}
        for domain in self.domains:
            windowed = self._windowed(shown, reference, domain, masks[domain.mask], leave_out)
            columns = windowed | in_hu[domain.mask] | by_tissue
            found[domain] = [{name: columns[name][i] for name in self.metrics} for i in range(len(images))]
        return found

    def _windowed(
        self,
        shown: npt.NDArray[np.floating],
        reference: npt.NDArray[np.floating],
        domain: Domain,
        mask: Mask | None,
        leave_out: frozenset[str],
    ) -> dict[str, PerImage]:
        """The metrics on [0, 1]; each pixel of the body for itself, or the body's box where neighbours matter."""
        window, count = domain.window.window, len(shown)
        names = [name for name in self.metrics if METRICS[name].domain == "window" and name != "PI"]
        if mask is not None and not mask.any():
            return {name: _without(NO_BODY, count) for name in (*names, "PI")}
        ours, wanted = window.to_01(shown), window.to_01(reference)
        pixels = _tensor(_pixels(ours, mask)), _tensor(_pixels(wanted, mask))
        box = _tensor(_boxed(ours, mask)), _tensor(_boxed(wanted, mask))
        found: dict[str, PerImage] = {}
        for name in names:
            function = METRICS[name].function or self.learned[name]
            skipped = name in leave_out
            images = pixels if METRICS[name].pixelwise else box
            found[name] = _without(LEFT_OUT, count) if skipped else function(*images)
        if "PI" in self.metrics:
            found["PI"] = self._index(found, leave_out)
        return found

    def _index(self, found: Mapping[str, PerImage], leave_out: frozenset[str]) -> PerImage:
        """Perceptual index (Blau et al., PIRM 2018), of one kind in all rows."""
        if not self.pi_with_ma:
            return found["NIQE"]
        if "MA" in leave_out:
            return _without(LEFT_OUT, len(found["MA"]))
        return tuple(
            MetricValue(None, NO_PI)
            if ma.value is None or niqe.value is None
            else MetricValue(((10 - ma.value) + niqe.value) / 2)
            for ma, niqe in zip(found["MA"], found["NIQE"], strict=True)
        )

    def _in_hu(
        self, shown: npt.NDArray[np.floating], reference: npt.NDArray[np.floating], mask: Mask | None
    ) -> dict[str, PerImage]:
        names = [name for name in self.metrics if METRICS[name].group == "hu"]
        if mask is not None and not mask.any():
            return {name: _without(NO_BODY, len(shown)) for name in names}
        return self._on_pixels(names, shown, reference, mask)

    def _by_tissue(self, shown: npt.NDArray[np.floating], reference: npt.NDArray[np.floating]) -> dict[str, PerImage]:
        names = [name for name in self.metrics if METRICS[name].tissue]
        masks = tissue_masks(reference[0, 0]) if names else {}
        found: dict[str, PerImage] = {}
        for tissue, mask in masks.items():
            own = [name for name in names if METRICS[name].tissue == tissue]
            if np.count_nonzero(mask) < FEWEST_PIXELS:
                found |= {name: _without(f"no {tissue}", len(shown)) for name in own}
            else:
                found |= self._on_pixels(own, shown, reference, mask)
        return found

    def _on_pixels(
        self,
        names: Sequence[str],
        shown: npt.NDArray[np.floating],
        reference: npt.NDArray[np.floating],
        mask: Mask | None,
    ) -> dict[str, PerImage]:
        low, high = self.hu_range.low, self.hu_range.high
        ours, wanted = (_tensor(np.clip(_pixels(image, mask), low, high)) for image in (shown, reference))
        functions = {name: METRICS[name].function for name in names}
        return {name: function(ours, wanted) for name, function in functions.items() if function}


def _mask(name: MaskName, hr_hu: npt.NDArray[np.floating]) -> Mask | None:
    """None for the whole image."""
    return body_mask(hr_hu) if name == "body" else None


def _pixels(image: npt.NDArray[np.floating], mask: Mask | None) -> npt.NDArray[np.floating]:
    """(N, 1, H, W) → the pixels of the mask in a line, (N, 1, 1, pixels)."""
    return image if mask is None else image[..., mask][:, :, None]


def _boxed(image: npt.NDArray[np.floating], mask: Mask | None) -> npt.NDArray[np.floating]:
    """(N, 1, H, W) → the smallest rectangle that holds the mask."""
    if mask is None:
        return image
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return image[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _without(reason: str, count: int) -> PerImage:
    return (MetricValue(None, reason),) * count


def _tensor(image: npt.NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float64))
