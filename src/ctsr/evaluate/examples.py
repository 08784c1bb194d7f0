"""Example slices for pictures, and the agreement of their HU with the reference: the images that plots need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctsr.data.pairs import slice_pair
from ctsr.evaluate.methods import reconstruct
from ctsr.evaluate.output_folder import Row
from ctsr.evaluate.plan import EvaluationPlan
from ctsr.evaluate.runner import reconstruct_slice
from ctsr.evaluate.slices import PlannedSlice
from ctsr.evaluate.statistics import merit
from ctsr.hu import BLOCK, FloatArray, body_blocks
from ctsr.metrics import METRICS

RANKED_BY = ("PSNR", "SSIM", "LPIPS", "RMSE_HU")
"""The first of these that was computed ranks the slices."""
LIMITS = 1.96
"""Standard deviations from the bias to the limits of agreement."""


@dataclass(frozen=True, eq=False)
class ExampleSlice:
    """One slice by every method, in HU."""

    planned: PlannedSlice
    lr_hu: FloatArray
    """(h, w)."""
    hr_hu: FloatArray
    """(H, W), clipped to the models' range."""
    images_hu: Mapping[str, FloatArray]
    """Method → (H, W)."""


def choose_examples(plan: EvaluationPlan, rows: Sequence[Row]) -> dict[str, PlannedSlice]:
    """Choose `comparison` (the middle of the first series), and the `best`, `median` and `worst` of the first model.

    Args:
        plan: with its slices.
        rows: of the first domain.
    """
    first = [planned for planned in plan.slices if planned.stored == plan.slices[0].stored]
    chosen = {"comparison": first[len(first) // 2]}
    metric = next((name for name in RANKED_BY if name in plan.metrics), None)
    if metric is None:
        return chosen
    own = {row.slice: row.metrics[metric].value for row in rows if row.method == plan.model_methods[0]}
    by_ref = {planned.ref: planned for planned in plan.slices}
    scored = [(ref, value) for ref, value in own.items() if value is not None]
    ranked = sorted(scored, key=lambda item: merit(METRICS[metric].better, item[1]))
    if ranked:
        places = {"worst": 0, "median": len(ranked) // 2, "best": -1}
        chosen |= {name: by_ref[ranked[place][0]] for name, place in places.items()}
    return chosen


def example_slice(plan: EvaluationPlan, planned: PlannedSlice) -> ExampleSlice:
    """Super-resolve one slice by every method."""
    hu_range = plan.model.hu_range
    pair = slice_pair(planned.stored, planned.index, plan.sampler, hu_range)
    images = reconstruct(plan.models, pair, plan.baseline_methods, plan.told(planned))
    images_hu = [hu_range.to_hu(image[0].cpu().numpy()) for image in images]
    return ExampleSlice(
        planned,
        lr_hu=hu_range.to_hu(pair.lr[0, 0].numpy()),
        hr_hu=hu_range.to_hu(pair.hr[0, 0].numpy()),
        images_hu=dict(zip(plan.methods, images_hu, strict=True)),
    )


@dataclass(frozen=True, eq=False)
class Agreement:
    """HU of one method against the reference, in blocks of the body (Bland & Altman, Lancet 1:307, 1986)."""

    block: int
    """Pixels on a side."""
    mean_hu: npt.NDArray[np.float64]
    """(blocks,): mean of image and reference."""
    difference_hu: npt.NDArray[np.float64]
    """(blocks,): image − reference."""

    @property
    def bias(self) -> float:
        """Mean difference, HU."""
        return float(self.difference_hu.mean()) if self.difference_hu.size else 0.0

    @property
    def low(self) -> float:
        """Lower limit of agreement, HU."""
        return self.bias - LIMITS * self._sd

    @property
    def high(self) -> float:
        """Upper limit of agreement, HU."""
        return self.bias + LIMITS * self._sd

    @property
    def _sd(self) -> float:
        return float(self.difference_hu.std()) if self.difference_hu.size else 0.0


def agreement(plan: EvaluationPlan) -> dict[str, Agreement]:
    """Method → agreement with HR over the blocks of the body, in the middle slice of each series of the plan."""
    by_series: dict[str, list[PlannedSlice]] = {}
    for planned in plan.slices:
        by_series.setdefault(str(planned.stored.folder), []).append(planned)
    image_blocks: list[npt.NDArray[np.float64]] = []
    reference_blocks: list[npt.NDArray[np.float64]] = []
    hu_range = plan.model.hu_range
    for slices in by_series.values():
        images, hr_hu = reconstruct_slice(plan, slices[len(slices) // 2])
        reference = np.clip(hr_hu, hu_range.low, hu_range.high)
        # Blocks cut by the image's edge, if any, are the last row and column of the body map.
        whole = tuple(slice(size // BLOCK) for size in reference.shape)
        body = body_blocks(np.rint(reference).astype(np.int16))[whole]
        images_hu = hu_range.to_hu(images[:, 0].cpu().double().numpy())
        image_blocks.append(_block_means(images_hu)[:, body])
        reference_blocks.append(_block_means(reference[None])[:, body])
    ours, theirs = np.concatenate(image_blocks, axis=1), np.concatenate(reference_blocks, axis=1)[0]
    return {
        method: Agreement(BLOCK, (image + theirs) / 2, image - theirs)
        for method, image in zip(plan.methods, ours, strict=True)
    }


def _block_means(images: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Means of the whole blocks: (N, rows, columns) → (N, rows//8, columns//8)."""
    count, rows, columns = images.shape
    cut = images[:, : rows - rows % BLOCK, : columns - columns % BLOCK].astype(np.float64)
    return cut.reshape(count, rows // BLOCK, BLOCK, columns // BLOCK, BLOCK).mean(axis=(2, 4))
