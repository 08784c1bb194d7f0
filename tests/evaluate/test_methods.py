from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ctsr.data.pairs import SlicePair
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.evaluate.methods import BASELINES, load_model_under_test, method_names, reconstruct, short_name
from ctsr.models.interpolation import interpolate
from tests.made.model import save_model


def test_all_methods_enlarge_the_same_lr_in_their_order(tmp_path: Path) -> None:
    lr, hr = torch.rand(1, 1, 9, 7) - 0.5, torch.zeros(1, 1, 18, 14)
    draw = DegradationSampler(Degradation()).draw("anna", "1.2", "1.2.0", 0)
    pair = SlicePair(lr, hr, hr[0, 0].numpy(), draw)
    paths = [save_model(tmp_path / f"{seed}.pth", seed=seed) for seed in (1, 2)]
    models = [load_model_under_test(str(path), device="cpu") for path in paths]
    images = reconstruct(models, pair, ("lanczos", "bicubic"))
    assert images.shape == (4, 1, 18, 14)
    assert torch.equal(images[0], interpolate(lr, 2, "lanczos")[0])
    assert torch.equal(images[1], interpolate(lr, 2, "bicubic")[0])
    for image, model in zip(images[2:], models, strict=True):
        assert torch.equal(image, model.super_resolve(lr, draw.params)[0])
    assert not torch.equal(images[3], images[2])


@pytest.mark.parametrize("kind", BASELINES)
@pytest.mark.parametrize("scale", [2, 4])
def test_interpolation_keeps_a_ramp_where_it_is(kind, scale: int) -> None:
    """LR pixel j lies at HR coordinate (j + ½)·scale − ½; a shift by half an HR pixel is 1/8 or 1/4 of a step."""
    hr_position = (torch.arange(16 * scale, dtype=torch.float64) + 0.5) / scale - 0.5
    lr = (torch.arange(16, dtype=torch.float64) / 16).expand(1, 1, 16, 16)
    inner = slice(4 * scale, 12 * scale)
    steps_off = 16 * interpolate(lr, scale, kind)[0, 0, 0, inner] - hr_position[inner]
    assert abs(float(steps_off.mean())) < 1e-12
    # Bicubic with a = −0.75 and Lanczos bend a ramp a little, to both sides alike; bilinear keeps it straight.
    assert float(steps_off.abs().max()) < (1e-12 if kind == "bilinear" else 0.05)


@pytest.mark.parametrize("scale", [2, 4])
def test_lanczos_is_that_of_pillow(scale: int) -> None:
    lr = torch.rand(1, 1, 21, 34, generator=torch.Generator().manual_seed(0)) - 0.5
    size = (34 * scale, 21 * scale)
    wanted = np.asarray(Image.fromarray(lr[0, 0].numpy()).resize(size, Image.Resampling.LANCZOS))
    assert np.abs(interpolate(lr, scale, "lanczos")[0, 0].numpy() - wanted).max() < 1e-5


def test_one_model_goes_by_its_family_and_several_by_their_runs(tmp_path) -> None:
    paths = [
        save_model(tmp_path / folder / "best.pth", seed=i)
        for i, folder in enumerate(("one_20250912-114004", "other_20250912-114004"))
    ]
    paths += [save_model(tmp_path / "elsewhere" / "one" / "best.pth"), save_model(tmp_path / "loose.pth")]
    models = [load_model_under_test(str(path), device="cpu") for path in paths]
    assert method_names(models[:1]) == ("Model (RRDB)",)
    assert method_names(models[:2]) == ("Model (one)", "Model (other)")
    names = method_names([models[1], *models[2:], models[2]])
    assert names == ("Model (other_20250912-114004)", "Model (one 1)", "Model (loose)", "Model (one 2)")
    assert [short_name(name) for name in names][1:] == ["one 1", "loose", "one 2"]
