"""`ctsr view`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ctsr.cli.console import Console
from ctsr.cli.options import Common, DegradationFlags
from ctsr.errors import UsageError
from ctsr.viewer.options import DEFAULT_SCALE, ViewOptions

if TYPE_CHECKING:  # torch is imported when there is something to compute, not for `--help`
    from ctsr.degrade import Degradation
    from ctsr.evaluate.methods import ModelUnderTest
    from ctsr.viewer.state import ViewRequest


@dataclass(frozen=True, kw_only=True)
class View:
    r"""Show LR, interpolations, SR and HR side by side in the browser; the page is served by this computer to itself.

    ctsr view preprocessed_data/15041pp

    ctsr view preprocessed_data/15041pp --no_model --preset lung

    ctsr view preprocessed_data/15041pp --eval_summary eval_results/…/summary.json   (the evaluation's own numbers)

    ctsr view EXAMS/15041 --native       (images as they are, beside their super-resolution at a strength of choice)

    ctsr view EXAMS/15041 --native --slice_spacing 1.0 --plane coronal        (slices between slices)

    ctsr view EXAMS/15041 --native --isotropic 0.8       (the same on voxels that are as wide as they are high)

    ctsr view head.nii.gz --snapshot slice.png --plane coronal --index 120
    """

    folder: tyro.conf.Positional[Path | None] = None
    """A patient, a folder inside one, a root of several patients, or a NIfTI file."""
    dicom_folder: Path | None = None
    """The folder, as a flag."""
    model_path: str | None = None
    """Checkpoint file, run folder or name; by default the newest run, else the bundled model;
    with --native, ctsr-x2."""
    no_model: bool = False
    """Show LR, interpolations and HR only."""
    options: Annotated[ViewOptions, tyro.conf.arg(name="viewer")] = field(default_factory=ViewOptions)
    degradation: DegradationFlags = field(default_factory=DegradationFlags)
    scale: Literal[2, 4] | None = None
    """Scale of the LR images; by default the model's, or 2 without a model."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status 0, also when interrupted with Ctrl-C."""
        from ctsr.viewer.server import serve
        from ctsr.viewer.session import open_session
        from ctsr.viewer.state import prepare

        session = open_session(prepare(self._request(console), console), self.options)
        if self.options.snapshot is not None:
            from ctsr.viewer.embed import snapshot  # imports matplotlib, which the page does not need

            snapshot(session, self.options, progress=console)
            console.print(f"picture: {self.options.snapshot}")
            return 0
        try:
            serve(session, self.options, console)
        except KeyboardInterrupt:
            console.note("closed")
        return 0

    def _request(self, console: Console) -> "ViewRequest":
        from ctsr.quantization.acceptance import SyntheticSlices
        from ctsr.quantization.quantized_model import Int8Network
        from ctsr.viewer.state import ViewRequest

        folder = self.folder or self.dicom_folder
        if folder is None:
            raise UsageError("no images given; give a patient's folder: ctsr view DIR")
        model = self._model(console)
        degradation = self._degradation(model, console)
        int8 = Int8Network(SyntheticSlices.of(model.model)) if model and not self.options.wants_slices_between else None
        return ViewRequest(folder, model, degradation, self.options, self.common.given, int8)

    def _model(self, console: Console) -> "ModelUnderTest | None":
        from ctsr.evaluate.methods import load_model_under_test

        if not self.no_model:
            named = self.model_path or self.options.default_model
            kind = self.options.model_kind
            return load_model_under_test(named, device=self.device, scale=self.scale, kind=kind, progress=console)
        if self.model_path is not None:
            raise UsageError("--no_model and --model_path contradict each other; give only one of them")
        return None

    def _degradation(self, model: "ModelUnderTest | None", console: Console) -> "Degradation":
        from ctsr.degrade import Degradation

        if model is None or self.options.wants_slices_between:
            return self.degradation.over(Degradation(scale=self.scale or DEFAULT_SCALE))
        return self.degradation.over_trained(model.degradation, console)
