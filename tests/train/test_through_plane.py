"""Training of networks between slices."""

from dataclasses import replace

import pytest

from ctsr.checkpoint import find_model, load_model
from ctsr.degrade import Degradation
from ctsr.errors import CheckpointError, UsageError
from ctsr.infer.export import export
from ctsr.train import FinetuneOptions, TrainOptions
from ctsr.train.finetune import finetune
from ctsr.train.run import train
from ctsr.train.through_plane import ThroughPlaneDegradation
from tests.made.training import assert_same_state, last


@pytest.fixture
def between(options: TrainOptions) -> TrainOptions:
    return replace(options, through_plane=True, thickness_range=(2.0, 4.0), epochs=2)


def test_it_is_trained_continued_and_known_as_what_it_is(between: TrainOptions, finetuning: FinetuneOptions) -> None:
    whole = train(between)
    part = train(replace(between, epochs=1, runs=between.runs / "part"))
    resumed = train(TrainOptions(resume=str(part.folder), epochs=2, store=between.store, device="cpu"))
    assert_same_state(last(whole), last(resumed))
    assert whole.folder.name.startswith("edsr_z_")
    model = load_model(whole.best)
    assert model.architecture.is_through_plane
    assert model.meta is not None
    assert ThroughPlaneDegradation.from_dict(model.meta.degradation).thickness_range == (2.0, 4.0)

    with pytest.raises(CheckpointError, match="is a model between slices, not in plane"):
        find_model(str(whole.best))
    with pytest.raises(CheckpointError, match="is a model between slices, not in plane"):
        finetune(replace(finetuning, pretrained_g=str(whole.best)))
    packed = export(model, between.runs / "mine.safetensors", "safetensors").path
    assert find_model(str(packed), kind="between slices").architecture == model.architecture


def test_a_model_in_plane_is_no_model_between_slices(options: TrainOptions) -> None:
    in_plane = train(replace(options, epochs=1))
    with pytest.raises(CheckpointError, match="is a model in plane, not between slices"):
        find_model(str(in_plane.best), kind="between slices")
    with pytest.raises(UsageError, match="`through_plane` True does not fit"):
        train(TrainOptions(resume=str(in_plane.folder), through_plane=True, epochs=2, store=options.store))


def test_dose_has_no_meaning_between_slices(between: TrainOptions) -> None:
    with pytest.raises(UsageError, match="at full dose"):
        train(between, Degradation(dose_factor_range=(0.25, 0.5)))


@pytest.mark.parametrize("bounds", [(0.0, 2.0), (3.0, 2.0), (1.0, 50.0)])
def test_impossible_slices_are_refused(options: TrainOptions, bounds: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="`thickness_range` needs"):
        replace(options, thickness_range=bounds)


def test_patches_larger_than_every_slice_are_refused_between_slices_too(between: TrainOptions) -> None:
    with pytest.raises(UsageError, match="`patch_size` 50 is larger than every training slice; 48 fits"):
        train(replace(between, patch_size=50))
    with pytest.raises(UsageError, match="`patch_size` 24 at `hr_reduction` 3 is larger than every"):
        train(replace(between, hr_reduction=(2.5, 3.0)))
