"""Do the HU of two images agree? Means of blocks against each other (Bland & Altman, Lancet 1:307, 1986)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctsr.body_mask import BLOCK, body_blocks
from ctsr.evaluate.pipeline import made
from ctsr.evaluate.plan import EvaluationPlan

__all__ = ["Agreement", "agreement"]

LIMITS = 1.96
"""Standard deviations from the bias to the limits of agreement."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """Blocks of the body by one method."""

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
    by_series: dict[str, list[int]] = {}
    for number, planned in enumerate(plan.slices):
        by_series.setdefault(str(planned.stored.folder), []).append(number)
    blocks: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
    hu_range = plan.model.hu_range
    for numbers in by_series.values():
        images, hr_hu = made(plan, plan.slices[numbers[len(numbers) // 2]])
        reference = np.clip(hr_hu, hu_range.low, hu_range.high)
        # Blocks that the image's edge cuts, if any, are the body map's last row and column.
        whole = tuple(slice(size // BLOCK) for size in reference.shape)
        body = body_blocks(np.rint(reference).astype(np.int16))[whole]
        shown = hu_range.to_hu(images[:, 0].cpu().double().numpy())
        blocks.append((_means(shown)[:, body], _means(reference[None])[:, body]))
    ours, theirs = (np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True))
    return {
        method: Agreement(BLOCK, (image + theirs[0]) / 2, image - theirs[0])
        for method, image in zip(plan.methods, ours, strict=True)
    }


def _means(images: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """(N, rows, columns) → (N, rows//8, columns//8): means of the blocks that are whole."""
    count, rows, columns = images.shape
    cut = images[:, : rows - rows % BLOCK, : columns - columns % BLOCK].astype(np.float64)
    return cut.reshape(count, rows // BLOCK, BLOCK, columns // BLOCK, BLOCK).mean(axis=(2, 4))
