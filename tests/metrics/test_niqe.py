"""NIQE: the numbers of `pyiqa` and of the authors' release, and a reason where an image has no statistics."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ctsr.errors import CheckpointError
from ctsr.metrics.lpips_niqe import NIQE, TOO_FLAT, TOO_SMALL
from ctsr.weights import load_weights
from tests.golden.quality_images import CALIBRATION, DISTORTIONS, calibration, distorted
from tests.golden.quality_images import NIQE as EXPECTED
from tests.needs import needs_package, needs_weights

PYIQA_SHA256 = "42bbcf1c274a8b53f040a3ec5ec304a15b7725afb5a85b81050e9cc7e6d09ed4"
WITHOUT_FLAT_AREAS = ("I04",)


@pytest.fixture(scope="module")
def niqe() -> NIQE:
    return NIQE(load_weights("niqe", needs_weights("niqe")))


def tensor(image: object) -> Tensor:
    return torch.from_numpy(np.array(image))[None, None].double() / 255


def judged(niqe: NIQE, image: Tensor) -> float:
    (found,) = niqe(image, image)
    assert found.value is not None, found.reason
    return found.value


@pytest.mark.parametrize("name", EXPECTED)
def test_it_agrees_with_pyiqa(niqe: NIQE, name: str) -> None:
    assert judged(niqe, tensor(distorted(name))) == pytest.approx(EXPECTED[name], abs=1e-5)


def test_it_agrees_on_the_calibration_images(niqe: NIQE, tmp_path: Path) -> None:
    with zipfile.ZipFile(needs_package("pyiqa==0.1.16", PYIQA_SHA256, tmp_path)) as wheel:
        for name, (published, pyiqas) in CALIBRATION.items():
            with wheel.open(f"ResultsCalibra/dist_dir/{name}.bmp") as file:
                found = judged(niqe, tensor(calibration(file)))
            assert found == pytest.approx(pyiqas, abs=1e-3)
            if name in WITHOUT_FLAT_AREAS:
                assert found == pytest.approx(published, abs=1e-3)


def test_what_lies_beyond_whole_blocks_does_not_count(niqe: NIQE) -> None:
    image = tensor(distorted("original"))
    assert judged(niqe, image[..., :300, :395]) == judged(niqe, image[..., :288, :384])


def test_images_are_judged_as_8_bits_each_by_itself_and_the_reference_is_ignored(niqe: NIQE) -> None:
    batch = torch.cat([tensor(distorted(name)) for name in DISTORTIONS])
    assert niqe(batch + 0.4 / 255, batch[:1]) == tuple(niqe(one[None], batch[1:2])[0] for one in batch)


def test_the_number_of_threads_changes_no_digit(niqe: NIQE) -> None:
    image, before = tensor(distorted("noisy")), torch.get_num_threads()
    try:
        found: list[float] = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(judged(niqe, image))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_air_makes_it_rise(niqe: NIQE) -> None:
    image = tensor(distorted("original"))
    mostly_air = image.clone()
    mostly_air[..., 192:, :] = 0
    assert judged(niqe, mostly_air) > judged(niqe, image) + 5


def test_an_image_without_statistics_has_a_reason(niqe: NIQE) -> None:
    flat = torch.full((2, 1, 200, 200), 0.5)
    assert [one.reason for one in niqe(flat, flat)] == [TOO_FLAT] * 2
    assert niqe(flat[..., :95, :], flat)[0].reason == TOO_SMALL
    assert niqe(flat / 0 * 0, flat)[0].reason == "not finite"


def test_another_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match="not a model of NIQE"):
        NIQE({"mean": torch.zeros(18), "covariance": torch.eye(18)})
