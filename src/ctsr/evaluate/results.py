"""What an evaluation leaves behind once all rows are there: summary, plots, pictures, the report, and flat copies."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from ctsr.checkpoint.meta import current_versions
from ctsr.degrade import Draw
from ctsr.evaluate.folder import ResultFolder
from ctsr.evaluate.judge import Domain
from ctsr.evaluate.model import ModelUnderTest
from ctsr.evaluate.plan import EvaluationPlan, one_or_list
from ctsr.evaluate.report.examples import choose_examples, example_figure
from ctsr.evaluate.report.hallucination import study_hallucination
from ctsr.evaluate.report.page import write_report
from ctsr.evaluate.report.physics import study_physics
from ctsr.evaluate.report.plots import write_plots
from ctsr.evaluate.report.sections import Section
from ctsr.evaluate.rows import Row, SliceRef, on_domain
from ctsr.evaluate.summary import (
    ComparedBy,
    SeriesDraws,
    degradation_part,
    domain_part,
    domains,
    plain,
    statistics_part,
)
from ctsr.evaluate.tables import patient_level
from ctsr.figures import save_figure
from ctsr.files import write_atomically, write_json
from ctsr.progress import Progress

__all__ = ["write_results"]


def write_results(plan: EvaluationPlan, rows: Sequence[Row], folder: ResultFolder, progress: Progress) -> None:
    """Write everything but `metrics.csv`, which has grown by itself, and `config.json`, which was there first."""
    studies: dict[str, Any] = {}
    sections: list[Section] = []
    if plan.options.physics:
        studies["physics"], section = study_physics(plan, folder, progress)
        sections.append(section)
    if plan.options.hallucination:
        studies["hallucination"], section = study_hallucination(plan, folder, progress)
        sections.append(section)
    if not plan.options.no_plots:
        first = on_domain(rows, plan.domains[0])
        write_plots(first, plan, folder.plots)
        for name, example in choose_examples(plan, first).items():
            save_figure(example_figure(plan, example, first), folder.plots / f"{name}.png")
    summary = summary_of(plan, rows, folder) | studies
    write_json(folder.summary_json, summary)
    write_report(plan, rows, summary, folder, sections)
    if plan.options.flat_names:
        output = plan.options.output_dir
        write_atomically(output / f"metrics_{plan.flat_stem}.csv", folder.metrics_csv.read_bytes())
        write_atomically(output / f"summary_{plan.flat_stem}.json", folder.summary_json.read_bytes())


def summary_of(plan: EvaluationPlan, rows: Sequence[Row], folder: ResultFolder) -> dict[str, Any]:
    """The document of `summary.json`; what stands at its top is of the first domain and the first model."""
    options, first = plan.options, plan.domains[0]
    models = {name: _model(plan, model) for name, model in zip(plan.model_methods, plan.models, strict=True)}
    by_domain = {domain.tag: _domain(plan, rows, domain) for domain in plan.domains}
    return {
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "split": options.split,
        "num_patients": len(plan.patients),
        "num_slices": len(plan.slices),
        "patients": list(plan.patients),
        "methods": list(plan.methods),
        "paths": {
            "root": one_or_list([str(root) for root in options.root]),
            "model_path": one_or_list([str(model.generator.path) for model in plan.models]),
            "output_dir": str(options.output_dir),
            "metrics_csv": str(folder.metrics_csv),
            "summary_json": str(folder.summary_json),
            "report_html": str(folder.report_html),
            "plots": None if options.no_plots else str(folder.plots),
        },
        "config": plan.config(),
        "split_source": plan.split_source,
        "model": next(iter(models.values())),
        "models": models,
        "window": by_domain[first.tag]["window"],
        "mask": first.mask,
        "metrics": domains(plan.metrics, first, plan.model.hu_range),
        "lpips": plan.learned.said.get("LPIPS"),
        "perceptual": {name: dict(said) for name, said in plan.learned.said.items()},
        "pi_kind": plan.learned.pi_kind,
        **degradation_part(plan.sampler, _draws(plan)),
        **statistics_part(on_domain(rows, first)),
        "by_domain": by_domain,
        "failures": list(plan.failures),
        "versions": current_versions(),
    }


def _model(plan: EvaluationPlan, model: ModelUnderTest) -> dict[str, Any]:
    return {
        "name": model.name,
        "experiment": model.experiment(plan.sampler.degradation.mode),
        "path": str(model.generator.path),
        "architecture": str(model.generator.architecture),
        "scale": model.scale,
        "sha256": model.generator.sha256,
        "engine": model.engine_name,
        "blend": None if model.generator.blend is None else asdict(model.generator.blend),
        "hu_range": [model.hu_range.low, model.hu_range.high],
    }


def _domain(plan: EvaluationPlan, rows: Sequence[Row], domain: Domain) -> dict[str, Any]:
    """One domain; the statistics of the first stand at the top of the document, and in more detail."""
    window, own = domain.window, on_domain(rows, domain)
    series = {(one.ref.patient_id, one.ref.series_uid): one.stored for one in plan.slices}
    compared = ComparedBy(plan.model_methods, plan.baselines)
    return {
        "window": {"tag": window.tag} | _ends(domain),
        "mask": domain.mask,
        "patient_level_aggregate": plain(patient_level(own)),
        **domain_part(own, compared, series),
    }


def _ends(domain: Domain) -> dict[str, float]:
    window = domain.window.window
    return {"center": window.center, "width": window.width, "low": window.low, "high": window.high}


def _draws(plan: EvaluationPlan) -> list[SeriesDraws]:
    """What the sampler draws for each slice: made again rather than remembered, as it is a pure function."""
    draws: dict[tuple[str, str], list[tuple[SliceRef, Draw]]] = {}
    for planned in plan.slices:
        ref = planned.ref
        # By the series' own UID, as `slice_pair` does: the number that rows may have behind it is theirs alone.
        draw = plan.sampler.draw(ref.patient_id, planned.stored.series_uid, ref.sop_instance_uid, ref.slice_index)
        draws.setdefault((ref.patient_id, ref.series_uid), []).append((ref, draw))
    return [SeriesDraws(*key, drawn) for key, drawn in draws.items()]
