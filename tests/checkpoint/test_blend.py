"""Blends of two generators: both ends come back, the middle is the middle, and who was trained on is remembered."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ctsr.checkpoint import Model, blend, load_checkpoint, load_model, save_blend
from ctsr.cli.main import main
from ctsr.errors import CheckpointError, DomainError
from ctsr.hu import HURange
from tests.made.model import SPLIT, save_model


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Model, Model]:
    other = {"train": (*SPLIT["train"], "fred"), "val": SPLIT["val"], "test": ()}
    return (
        load_model(save_model(tmp_path / "l1" / "best.pth", split={**SPLIT, "train": ("anna", "dora"), "val": ()})),
        load_model(save_model(tmp_path / "tuned" / "best.pth", split=other, seed=4)),
    )


def test_the_ends_are_the_two_generators_to_the_bit(pair: tuple[Model, Model]) -> None:
    for alpha, end in zip((0.0, 1.0), pair, strict=True):
        state = blend(*pair, alpha).net.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in end.net.state_dict().items())


def test_weights_in_between_are_on_the_line(pair: tuple[Model, Model]) -> None:
    first, second = (one.net.state_dict() for one in pair)
    for key, value in blend(*pair, 0.3).net.state_dict().items():
        assert torch.allclose(value, 0.7 * first[key] + 0.3 * second[key], atol=1e-6)


def test_a_blend_counts_as_trained_on_the_patients_of_both(pair: tuple[Model, Model]) -> None:
    meta = blend(*pair, 0.5).meta
    assert meta is not None
    assert meta.trained_on == {"anna", "bert", "cleo", "dora", "fred"}
    assert meta.also_trained_on == ("dora",)
    assert meta.split == pair[1].meta.split  # type: ignore[union-attr]


def test_every_blend_has_an_identity_of_its_own(pair: tuple[Model, Model]) -> None:
    found = {blend(*pair, alpha).sha256 for alpha in (0.0, 0.25, 0.5)} | {one.sha256 for one in pair}
    assert len(found) == 5


def test_what_cannot_be_blended_is_refused(pair: tuple[Model, Model], tmp_path: Path) -> None:
    with pytest.raises(DomainError, match=r"`alpha` must be in \[0, 1\], got 1\.5"):
        blend(*pair, 1.5)
    wider = load_model(save_model(tmp_path / "wider.pth", nf=8))
    with pytest.raises(CheckpointError, match="are different networks"):
        blend(pair[0], wider, 0.5)
    assert pair[1].meta is not None
    elsewhere = replace(pair[1], meta=replace(pair[1].meta, hu_range=HURange(-1024, 3071)))
    with pytest.raises(CheckpointError, match="different HU ranges"):
        blend(pair[0], elsewhere, 0.5)
    with pytest.raises(CheckpointError, match="does not say how it was trained"):
        save_blend(tmp_path / "b.pth", pair[0], replace(pair[1], meta=None), 0.5)


def test_the_verb_writes_a_checkpoint_like_any_other(
    pair: tuple[Model, Model], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["blend", str(tmp_path / "l1"), str(tmp_path / "tuned" / "best.pth"), "--alpha", "0.3"]
    out = tmp_path / "tuned" / "best_alpha0.3.pth"
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"model: {out}"
    loaded, expected = load_model(out), blend(*pair, 0.3)
    assert all(torch.equal(v, loaded.net.state_dict()[k]) for k, v in expected.net.state_dict().items())
    made_of = load_checkpoint(out).training["blend"]
    assert (made_of["alpha"], made_of["first_sha256"], made_of["second_sha256"]) == (0.3, *(g.sha256 for g in pair))
    assert main(words) == 2
    assert "pass --overwrite to replace it" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
