"""Volumes and arrays in, the same kind out; what is returned is what the commands write."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

import ctsr
from ctsr.checkpoint import Model, load_model
from ctsr.degrade import Degradation
from ctsr.errors import DomainError, MissingInputError, UsageError
from ctsr.series import DefectKind
from ctsr.volume import Volume
from tests.made.ct import body, save_series
from tests.needs import needs
from tests.upscale.conftest import bilinear, bilinear_path

__all__ = ["bilinear", "bilinear_path"]

SIDE = 64


@pytest.fixture(scope="module")
def volume() -> Volume:
    """Two slices of a body with noise."""
    noise = np.random.default_rng(0).normal(0, 15, (2, SIDE, SIDE))
    hu = np.stack([body(SIDE, seed=i, smooth=1.5, texture=60) for i in range(2)]) + np.rint(noise)
    return Volume.from_array(np.maximum(hu, -1000), (2.5, 0.8, 0.8))


def test_a_volume_gets_the_hu_that_the_command_writes(tmp_path: Path) -> None:
    folder = tmp_path / "exams" / "P1" / "s"
    noise = np.rint(np.random.default_rng(0).normal(0, 20, (2, SIDE, SIDE))).astype(np.int16)
    save_series(folder, list(np.maximum(body(SIDE, radius=0.8, texture=0) + noise, -1000)))
    report = ctsr.upscale(folder, tmp_path / "out", engine="torch")
    assert report.failed == 0
    written = ctsr.read_volume(tmp_path / "out")
    fine = ctsr.upscale(ctsr.read_volume(folder), engine="torch")
    np.testing.assert_array_equal(np.rint(fine.hu), written.hu)
    assert fine.grid == written.grid


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_network_that_was_trained_on_gives_what_its_weights_say(
    volume: Volume, bilinear_path: Path, engine: Literal["torch", "openvino"]
) -> None:
    """The engine of the first call was kept, whatever became of the weights."""
    needs(engine == "torch" or find_spec("openvino") is not None, "install ctsr[fast] to run this")
    model, fresh = load_model(bilinear_path), load_model(bilinear_path)
    before = ctsr.upscale(volume, model=model, engine=engine).hu
    with torch.no_grad():
        for each in (model, fresh):
            each.net.get_parameter("conv_last.weight").mul_(0.5)
    after = ctsr.upscale(volume, model=model, engine=engine).hu
    assert np.abs(after - before).max() > 10
    np.testing.assert_array_equal(after, ctsr.upscale(volume, model=fresh, engine=engine).hu)


def test_an_array_comes_back_as_an_array(volume: Volume, bilinear: Model) -> None:
    fine = ctsr.upscale(volume, model=bilinear, engine="torch")
    array = ctsr.upscale(volume.hu, spacing=volume.grid.spacing, model=bilinear, engine="torch")
    single = ctsr.upscale(volume.hu[0], spacing=(0.8, 0.8), model=bilinear, engine="torch")
    assert fine.grid.shape == (2, 2 * SIDE, 2 * SIDE)
    assert fine.grid.spacing == (2.5, 0.4, 0.4)
    np.testing.assert_array_equal(array, fine.hu)
    assert single.shape == (2 * SIDE, 2 * SIDE)


def test_padding_stays_padding(volume: Volume, bilinear: Model) -> None:
    padding = np.zeros(volume.hu.shape, np.bool_)
    padding[0, :4] = True
    fine = ctsr.upscale(Volume(volume.hu, volume.grid, padding), model=bilinear, engine="torch")
    assert fine.padding is not None
    np.testing.assert_array_equal(fine.padding[:, ::2, ::2], padding)
    assert (fine.hu[fine.padding] == -1000).all()


def test_a_target_spacing_is_reached_around_the_same_centre(volume: Volume, bilinear: Model) -> None:
    fine = ctsr.upscale(volume, model=bilinear, engine="torch", target_spacing=0.5)
    assert fine.grid.spacing == (2.5, 0.5, 0.5)
    middle = tuple((size - 1) / 2 for size in fine.grid.shape)
    there = tuple((size - 1) / 2 for size in volume.grid.shape)
    assert fine.grid.position(middle) == pytest.approx(volume.grid.position(there))  # type: ignore[arg-type]


def test_a_degraded_volume_is_coarser_on_the_same_field_of_view(volume: Volume) -> None:
    lr = ctsr.degrade(volume, scale=2, seed=1)
    assert lr.grid.shape == (2, SIDE // 2, SIDE // 2)
    assert lr.grid.spacing == (2.5, 1.6, 1.6)
    np.testing.assert_array_equal(lr.hu, ctsr.degrade(volume.hu, seed=1))
    assert (lr.hu != ctsr.degrade(volume, seed=2).hu).any()
    ranges = Degradation(mode="clean", scale=4)
    assert ctsr.degrade(volume.hu[0, :, :63], degradation=ranges).shape == (SIDE // 4, 15)


def test_a_resampled_volume_is_around_the_same_centre(volume: Volume) -> None:
    coarse = ctsr.preprocess(volume, target_spacing=1.6)
    assert coarse.grid.shape == (2, SIDE // 2, SIDE // 2)
    assert coarse.grid.spacing == (2.5, 1.6, 1.6)
    np.testing.assert_array_equal(ctsr.preprocess(volume.hu, spacing=(2.5, 0.8, 0.8), target_spacing=1.6), coarse.hu)


def test_metrics_are_means_over_slices_in_hu(volume: Volume) -> None:
    shifted = Volume(volume.hu + np.float32(5), volume.grid)
    found = ctsr.metrics(shifted, volume, names=["PSNR", "hu"])
    assert found["BIAS_HU"] == pytest.approx(5, abs=1e-3)
    assert found["MAE_HU"] == pytest.approx(5, abs=1e-3)
    assert found["PSNR"] == pytest.approx(20 * np.log10(3000 / 5), abs=1e-3)


def test_evaluation_of_a_volume_takes_the_lr_of_degrade(volume: Volume, bilinear: Model) -> None:
    table = ctsr.evaluate(volume, model=bilinear, names=["MAE_HU"], degradation="blurnoise", seed=3)
    lr = ctsr.degrade(volume, degradation="blurnoise", seed=3)
    sr = ctsr.upscale(lr, model=bilinear, engine="torch", limit_noise=False)
    assert table["Model (RRDB)"]["MAE_HU"] == pytest.approx(ctsr.metrics(sr, volume)["MAE_HU"], abs=0.01)
    assert list(table) == ["Interpolation (Bilinear)", "Interpolation (Bicubic)", "Model (RRDB)"]


def test_errors_name_parameters_and_no_flags(volume: Volume, tmp_path: Path) -> None:
    wrong = [
        (lambda: ctsr.upscale(volume.hu, spacing=(1.0,)), DomainError, "`spacing`"),
        (lambda: ctsr.upscale(volume, denoise=2), UsageError, "`denoise`"),
        (lambda: ctsr.upscale(volume, target_spacing=0.001), UsageError, "`target_spacing`"),
        (lambda: ctsr.upscale(volume, device="tpu"), UsageError, "`device`"),
        (lambda: ctsr.upscale(volume, engine="onnx"), UsageError, "`engine`"),  # type: ignore[call-overload]
        (lambda: ctsr.upscale(tmp_path), UsageError, "`out`"),  # type: ignore[call-overload]
        (lambda: ctsr.upscale(volume, model="nowhere"), MissingInputError, "ctsr-x2"),
        (lambda: ctsr.preprocess(volume, target_spacing=0), DomainError, "`target_spacing`"),
        (lambda: ctsr.metrics(volume, volume, names=["LPIPS"]), UsageError, "`names`"),
        (lambda: ctsr.evaluate(volume, split="test"), UsageError, "`split`"),  # type: ignore[call-overload]
        (lambda: ctsr.degrade(volume, degradation=Degradation(noise_skew=99)), DomainError, "`noise_skew`"),
        (lambda: ctsr.read_volume(tmp_path / "none"), MissingInputError, "none"),
        (lambda: Volume.from_array(np.zeros((4, 4)), (1, 1, 1)), DomainError, "`hu`"),
    ]
    for call, kind, name in wrong:
        with pytest.raises(kind, match=name) as caught:
            call()
        assert "--" not in str(caught.value)


def test_a_volume_is_shown_in_one_line() -> None:
    volume = Volume.from_array(np.array([[[-1000.0, 40.0]]]), spacing=(2.5, 0.8, 0.8))
    assert repr(volume) == "Volume(1 × 1 × 2 voxels of 2.5 × 0.8 × 0.8 mm, -1000 … 40 HU)"


@pytest.mark.parametrize("name", ["fine", "fine.nii.gz"])
def test_what_a_network_made_is_written_as_such(volume: Volume, tmp_path: Path, bilinear: Model, name: str) -> None:
    save_series(tmp_path / "source", volume.hu)
    volume = ctsr.read_volume(tmp_path / "source")
    for made, is_result in ((ctsr.upscale(volume, model=bilinear, engine="torch"), True), (volume, False)):
        assert isinstance(made, Volume)
        out = ctsr.write_series(made, tmp_path / f"{is_result}" / name, like=tmp_path / "source")
        again = ctsr.write_series(ctsr.read_volume(out), tmp_path / f"{is_result} again.nii.gz")
        for path in (out, again):
            (found,) = ctsr.scan(path).all_series()
            assert (DefectKind.SUPER_RESOLVED in {defect.kind for defect in found.defects}) == is_result


def test_a_scale_that_is_not_that_of_the_degradation_is_refused(volume: Volume) -> None:
    assert ctsr.degrade(volume, degradation=Degradation(scale=4)).grid.shape[1] == volume.grid.shape[1] // 4
    with pytest.raises(UsageError, match="`scale` 4 is not that of `degradation`, 2"):
        ctsr.degrade(volume, scale=4, degradation=Degradation(scale=2))
