"""What the studies of physics and hallucination look at: every method as a function, and a few slices."""

from ctsr.evaluate.methods import short
from ctsr.evaluate.plan import EvaluationPlan, PlannedSlice
from ctsr.infer import SuperResolver, by_interpolation, by_network

__all__ = ["chosen_slices", "resolvers"]


def resolvers(plan: EvaluationPlan) -> dict[str, SuperResolver]:
    """Every method by its short name, as what turns LR in HU into SR in HU."""
    hu_range, scale = plan.model.hu_range, plan.model.scale
    baselines = {
        short(name): by_interpolation(kind, scale, hu_range)
        for name, kind in zip(plan.baselines, plan.options.baselines, strict=True)
    }
    models = zip(plan.model_methods, plan.models, strict=True)
    return baselines | {short(name): by_network(model.network, hu_range) for name, model in models}


def chosen_slices(plan: EvaluationPlan) -> dict[float, list[PlannedSlice]]:
    """Pixel size in mm → slices to study: so many of each series, evenly along it."""
    series: dict[str, list[PlannedSlice]] = {}
    for planned in plan.slices:
        series.setdefault(str(planned.stored.folder), []).append(planned)
    found: dict[float, list[PlannedSlice]] = {}
    for own in series.values():
        count = min(plan.options.study_slices, len(own))
        places = [int((i + 0.5) * len(own) / count) for i in range(count)]
        pixel_mm = round(own[0].stored.pixel_spacing[0], 4)
        found.setdefault(pixel_mm, []).extend(own[place] for place in places)
    return dict(sorted(found.items()))
