"""The whole job on the synthetic exam set: make, preprocess, split, train, evaluate."""

from dataclasses import dataclass
from pathlib import Path

from ctsr.checkpoint.model_lookup import BUNDLED
from ctsr.data.split import split_file
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.evaluation import Evaluation, evaluate
from ctsr.evaluate.methods import load_model_under_test
from ctsr.phantom import make_exams
from ctsr.preprocess import preprocess
from ctsr.reporting import SILENT, Progress
from ctsr.train import TrainOptions
from ctsr.train.run import train


@dataclass(frozen=True)
class DemoResult:
    """Where the demo's results are."""

    run_folder: Path
    evaluation: Evaluation
    """Evaluation of the model that was trained, beside the one that comes with ctsr."""
    failed: bool = False
    """Whether a series or a part of the evaluation is missing: the terminal has said which."""

    @property
    def picture(self) -> Path:
        """LR, bicubic, SR and HR of one test slice, with an enlarged detail."""
        return self.evaluation.folder / "plots" / "comparison.png"


def run_demo(out_dir: Path, *, epochs: int = 10, seed: int = 0, progress: Progress = SILENT) -> DemoResult:
    """Everything a user would do, on data whose truth is known, below `out_dir`.

    Args:
        out_dir: receives exams, preprocessed data, the run and its evaluation.
        epochs: of the training; the time goes there.
        seed: of the synthetic exams.
        progress: receives the progress of each step.
    """
    exams, preprocessed = out_dir / "exams", out_dir / "preprocessed_data"
    progress.note(f"1/4  synthetic exams → {exams}")
    make_exams(exams, seed=seed, progress=progress)
    progress.note(f"2/4  resampling to 0.8 mm → {preprocessed}")
    resampled = preprocess(exams, preprocessed, progress=progress)
    progress.note("3/4  training a small network with L1")
    trained = train(_training(out_dir, preprocessed, epochs), progress=progress)
    progress.note("4/4  evaluating on the test patients")
    options = EvaluateOptions(
        root=(preprocessed,),
        split="test",
        split_json=split_file(out_dir / "splits"),
        output_dir=out_dir / "eval_results",
        store=out_dir / "store",
    )
    models = [
        load_model_under_test(name, device="cpu", progress=progress)
        for name in (str(trained.best), next(iter(BUNDLED)))
    ]
    evaluation = evaluate(models, models[0].degradation, options, progress=progress)
    failed = bool(resampled.failed or trained.failures or evaluation.failures or evaluation.undone)
    return DemoResult(trained.folder, evaluation, failed)


def _training(out_dir: Path, preprocessed: Path, epochs: int) -> TrainOptions:
    """A network and a schedule for a laptop: minutes on two cores."""
    return TrainOptions(
        data_root=(preprocessed,),
        epochs=epochs,
        batch_size=8,
        patch_size=96,
        lr=5e-4,
        nf=32,
        nb=1,
        gc=16,
        patches_per_slice=4,
        augment=True,
        val_slices=4,
        num_workers=2,
        device="cpu",
        runs=out_dir / "runs",
        splits=out_dir / "splits",
        store=out_dir / "store",
    )
