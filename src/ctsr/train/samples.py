"""The same few validation slices after each epoch, as pictures: what the numbers mean to the eye."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ctsr.data.hu_cache import StoredSeries
from ctsr.data.pairs import SlicePair
from ctsr.figures import Panel, comparison_figure, save_figure
from ctsr.hu import PRESETS, HURange
from ctsr.infer import super_resolve
from ctsr.infer.conditions import network_input
from ctsr.models.conditioning import is_conditional
from ctsr.models.interpolation import interpolate
from ctsr.train.rig import Validation

__all__ = ["MOST_SAMPLES", "draw_samples"]

MOST_SAMPLES = 3
WINDOW = PRESETS["soft_tissue"]


@dataclass(frozen=True)
class Sample:
    """The middle slice of a validation series."""

    stored: StoredSeries
    index: int


def samples_of(series: Sequence[StoredSeries]) -> list[Sample]:
    """One slice of each of the first few series."""
    return [Sample(stored, len(stored) // 2) for stored in series[:MOST_SAMPLES]]


def draw_samples(folder: Path, validation: Validation, net: nn.Module, epoch: int) -> None:
    """Write ``epoch_003-1.png`` and so on into `folder`: LR, bicubic, SR and HR, a detail enlarged.

    Epoch 0 is the generator before its first step.
    """
    moment = f"after epoch {epoch}" if epoch else "before the first step"
    for number, sample in enumerate(samples_of(validation.series), start=1):
        pair = validation.pair(sample.stored, sample.index)
        figure = comparison_figure(
            _panels(pair, net, validation.hu_range, validation.sampler.degradation.scale),
            WINDOW,
            title=f"{sample.stored.patient_id}, slice {sample.index}, {moment}",
            pixel_aspect=sample.stored.pixel_spacing[0] / sample.stored.pixel_spacing[1],
        )
        save_figure(figure, folder / f"epoch_{epoch:03d}-{number}.png")


def _panels(pair: SlicePair, net: nn.Module, hu_range: HURange, scale: int) -> list[Panel]:
    images = {
        "LR": pair.lr,
        "Bicubic": interpolate(pair.lr, scale, "bicubic"),
        "SR": super_resolve(net, network_input(pair.lr, [pair.draw.params], conditional=is_conditional(net))),
        "HR": pair.hr,
    }
    return [Panel(name, hu_range.to_hu(image[0, 0].cpu().numpy())) for name, image in images.items()]
