"""What is to be seen, and what the page is told of it."""

from dataclasses import dataclass
from typing import Any

from ctsr import __version__
from ctsr.degrade import DegradationSampler
from ctsr.evaluate.methods import BICUBIC, BILINEAR, ModelUnderTest, method_names
from ctsr.hu import DEFAULT_RANGE, PRESETS, HURange, MetricWindow
from ctsr.metrics import METRICS
from ctsr.series import Series
from ctsr.viewer.images import PANELS, PanelName
from ctsr.viewer.options import PlaneName
from ctsr.viewer.replay import Evaluated

__all__ = ["View"]


@dataclass(frozen=True, eq=False)
class View:
    """What is to be seen; settled before anything is computed."""

    series: tuple[Series, ...]
    first: int
    model: ModelUnderTest | None
    scale: int
    sampler: DegradationSampler
    window: MetricWindow
    evaluated: Evaluated | None = None
    plane: PlaneName = "axial"
    index: int | None = None
    notes: tuple[str, ...] = ()
    """What the user should know beside the pictures."""

    @property
    def hu_range(self) -> HURange:
        """HU that the network sees as [-1, 1]."""
        return self.model.hu_range if self.model else DEFAULT_RANGE

    @property
    def panels(self) -> tuple[PanelName, ...]:
        """What there is to show: no SR without a model."""
        return tuple(panel for panel in PANELS if panel != "SR" or self.model)

    @property
    def methods(self) -> dict[PanelName, str]:
        """Panels that are compared with HR, and what tables and CSV files call them: as an evaluation does."""
        methods: dict[PanelName, str] = {"Bilinear": BILINEAR, "Bicubic": BICUBIC}
        if self.model:
            methods["SR"] = method_names([self.model])[0]
        return methods

    def facts(self) -> dict[str, Any]:
        """What the page needs to draw itself."""
        base = self.sampler
        return {
            "version": __version__,
            "scale": self.scale,
            "hu_range": [self.hu_range.low, self.hu_range.high],
            "presets": {name: [window.center, window.width] for name, window in PRESETS.items()},
            "window": [self.window.window.center, self.window.window.width],
            "plane": self.plane,
            "index": self.index,
            "panels": self.panels,
            "methods": self.methods,
            "metrics": {m.name: {"unit": m.unit, "better": m.better} for m in METRICS.values() if m.function},
            "series": [_listed(number, one) for number, one in enumerate(self.series)],
            "first": self.first,
            "model": _model(self.model),
            "evaluation": _evaluation(self.evaluated),
            "degradation": base.degradation.as_flags() | {"sampling": base.sampling, "deg_seed": base.deg_seed},
            "notes": list(self.notes),
        }


def _listed(number: int, one: Series) -> dict[str, Any]:
    return {
        "number": number,
        "patient": one.patient_id,
        "uid": one.series_uid,
        "description": one.description or one.path.name,
        "slices": len(one.slices),
        "rows": one.rows,
        "columns": one.columns,
        "pixel_spacing": one.pixel_spacing,
        "step": one.slice_step,
        "thickness": one.slice_thickness,
        "kernel": one.kernel,
        "scanner": one.scanner,
        "body_part": one.body_part,
    }


def _model(model: ModelUnderTest | None) -> dict[str, Any] | None:
    if model is None:
        return None
    generator = model.generator
    return {
        "name": model.name,
        "path": str(generator.path),
        "architecture": str(generator.architecture),
        "device": str(model.device),
        "engine": model.engine_name,
        "sha256": generator.sha256,
    }


def _evaluation(evaluated: Evaluated | None) -> dict[str, Any] | None:
    if evaluated is None:
        return None
    return {"tag": evaluated.window_tag, "window": [evaluated.window.center, evaluated.window.width]}
