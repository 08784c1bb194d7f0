"""`ctsr demo`."""

from dataclasses import dataclass, field
from pathlib import Path

from ctsr.cli.console import Console, mm
from ctsr.cli.options import Common

__all__ = ["Demo"]


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Run the whole job on a synthetic exam set: preprocess, split, train a small net, evaluate.

    The model that comes with ctsr is evaluated beside the one that is trained. Takes minutes.

    ctsr demo

    ctsr demo --make_data EXAMS        (only write the exams)
    """

    out_dir: Path = Path("demo_output")
    """Receives exams, preprocessed data, the trained model and its evaluation."""
    make_data: Path | None = None
    """Only write the synthetic exams, into this folder."""
    epochs: int = 10
    """Of the training; more take longer and give a better model."""
    seed: int = 0
    """Of the synthetic exams."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Make the exams, and unless only they were asked for, do the whole job on them."""
        if self.make_data is not None:
            return self._make_data(self.make_data, console)
        from ctsr.cli.evaluate import show
        from ctsr.demo import run_demo

        result = run_demo(self.out_dir, epochs=self.epochs, seed=self.seed, progress=console)
        show(console, result.evaluation)
        trained, bundled = result.evaluation.model_methods
        console.print(f"{trained} was just trained on such exams; {bundled} comes with ctsr and has never seen one.")
        console.print(f"model:   {result.run_folder / 'best.pth'}")
        console.print(f"picture: {result.picture}")
        console.print(f"report:  {result.evaluation.folder / 'report.html'}")
        return 0

    def _make_data(self, folder: Path, console: Console) -> int:
        from ctsr.phantom.exams import make_exams

        exams = make_exams(folder, seed=self.seed, progress=console)
        columns = ("patient", "series", "kernel", "spacing mm", "step mm", "landmarks")
        rows = [
            (
                exam.patient_id,
                exam.path.name,
                exam.kernel,
                mm(exam.spacing[1]),
                mm(exam.spacing[0]),
                str(len(exam.landmarks)),
            )
            for exam in exams
        ]
        console.table(f"Synthetic exams in {folder}", columns, rows)
        console.print(f"known HU in known places: {folder / 'truth.json'}")
        return 0
