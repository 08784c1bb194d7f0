"""What the studies of physics and hallucination look at: every method as a function, and a few slices."""

import math

from ctsr.evaluate.methods import short
from ctsr.evaluate.plan import EvaluationPlan, PlannedSlice
from ctsr.infer import SuperResolver, by_interpolation, by_network
from ctsr.physics import REFERENCE
from ctsr.progress import Progress

__all__ = ["chosen_slices", "labels", "resolvers"]

SQUARE = 1e-3
"""Relative difference of the two pixel spacings up to which pixels are square."""


def labels(plan: EvaluationPlan) -> dict[str, str]:
    """Method → what studies call it: short, where that tells all of them apart."""
    named = {method: short(method) for method in plan.methods}
    unique = len({*named.values(), REFERENCE, "LR"}) == len(named) + 2
    return named if unique else {method: method for method in named}


def resolvers(plan: EvaluationPlan) -> dict[str, SuperResolver]:
    """Every method by its label, as what turns LR in HU into SR in HU."""
    hu_range, scale, named = plan.model.hu_range, plan.model.scale, labels(plan)
    baselines = zip(plan.baselines, plan.options.baselines, strict=True)
    models = zip(plan.model_methods, plan.models, strict=True)
    return {named[name]: by_interpolation(kind, scale, hu_range) for name, kind in baselines} | {
        named[name]: by_network(model.network, hu_range) for name, model in models
    }


def chosen_slices(plan: EvaluationPlan, progress: Progress) -> dict[float, list[PlannedSlice]]:
    """Pixel size in mm → slices to study: so many of each series with square pixels, evenly along it."""
    series: dict[str, list[PlannedSlice]] = {}
    for planned in plan.slices:
        series.setdefault(str(planned.stored.folder), []).append(planned)
    found: dict[float, list[PlannedSlice]] = {}
    for own in series.values():
        rows_mm, columns_mm = own[0].stored.pixel_spacing
        if not math.isclose(rows_mm, columns_mm, rel_tol=SQUARE):
            who = f"{own[0].ref.patient_id}: pixels of {rows_mm:g} × {columns_mm:g} mm are not square"
            progress.note(f"warning: {who}; physics and hallucination are studied without this series")
            continue
        count = min(plan.options.study_slices, len(own))
        places = [int((i + 0.5) * len(own) / count) for i in range(count)]
        found.setdefault(round(rows_mm, 4), []).extend(own[place] for place in places)
    return dict(sorted(found.items()))
