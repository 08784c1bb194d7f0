"""Patches from the store against decoding a DICOM slice for each; on one core."""

import numpy as np
import numpy.typing as npt
import pydicom
import torch
import torch.nn.functional as F

from benchmarks.common import compare, exams, opened, report, workspace
from ctsr.data.pairs import PatchDataset, Ticket
from ctsr.degrade import Degradation, DegradationParams
from ctsr.hu import DEFAULT_RANGE
from ctsr.series import SliceHeader

PATCH = 128
COUNT = 120
BATCH = 10


def run() -> None:
    """HR patches, and finished LR/HR pairs."""
    with workspace() as folder:
        series, stored = opened(exams(folder), folder / "store")
        headers = [header for one in series for header in one.slices if min(one.rows, one.columns) > PATCH]
        patches = PatchDataset(stored, patch_size=PATCH, degradation=Degradation(), hu_range=DEFAULT_RANGE, seed=0)
        rng = np.random.default_rng(0)

        def fetch_ours() -> int:
            for index in rng.integers(len(patches), size=10 * COUNT):
                place = patches.place(Ticket(0, int(index)))
                np.ascontiguousarray(patches.series[place.series].hu[place.slice_index][_square(place.top, place.left)])
            return 10 * COUNT

        def fetch_theirs() -> int:
            for index in rng.integers(len(headers), size=COUNT):
                _decoded_patch(headers[index], rng)
            return COUNT

        report("HR patches of 128² fetched", "patches/s", compare(fetch_ours, fetch_theirs), target="at least 20")

        def pairs_ours() -> int:
            for start in range(0, 5 * COUNT, BATCH):
                patches.__getitems__([Ticket(0, (start + i) % len(patches)) for i in range(BATCH)])
            return 5 * COUNT

        def pairs_theirs() -> int:
            for index in rng.integers(len(headers), size=COUNT):
                _pair_one_by_one(headers[index], rng)
            return COUNT

        report("finished LR/HR pairs of 128²", "pairs/s a core", compare(pairs_ours, pairs_theirs), target="at least 4")


def _square(top: int, left: int) -> tuple[slice, slice]:
    return slice(top, top + PATCH), slice(left, left + PATCH)


def _decoded_patch(header: SliceHeader, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """The usual way: read and decode the file, convert all of it, cut the patch out."""
    dataset = pydicom.dcmread(header.path)
    hu = dataset.pixel_array.astype(np.float32) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    top, left = (int(rng.integers(size - PATCH)) for size in hu.shape)
    return hu[_square(top, left)]


def _pair_one_by_one(header: SliceHeader, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The usual way: decode, crop, blur, downsample, add noise, one patch at a time."""
    hr = torch.from_numpy(DEFAULT_RANGE.to_unit(_decoded_patch(header, rng)))[None, None]
    params: DegradationParams = Degradation().sample(rng)
    radius = params.blur_kernel // 2
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / params.blur_sigma) ** 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    blurred = F.conv2d(F.pad(hr, (radius,) * 4, mode="reflect"), kernel[None, None])
    lr = F.interpolate(blurred, scale_factor=0.5, mode="bilinear", align_corners=False)
    return (lr + params.noise_std * torch.randn_like(lr)).clamp(-1, 1), hr
