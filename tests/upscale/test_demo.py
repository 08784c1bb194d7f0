"""The synthetic exam set, every style of scanner in it, super-resolved."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ctsr.checkpoint import Model
from ctsr.infer import EngineRequest
from ctsr.phantom import make_exams
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.run import upscale
from tests.demo_set import DemoExams
from tests.made.exams import only_series
from tests.needs import wants_all_slices
from tests.oracles import dcentvfy_errors, dciodvfy_errors


@pytest.fixture
def exams(request: pytest.FixtureRequest, tmp_path: Path) -> DemoExams:
    """A small set; the one that `ctsr demo --make_data` writes where all slices are wanted."""
    if not wants_all_slices():
        return request.getfixturevalue("demo_exams")
    return DemoExams(tmp_path / "exams", make_exams(tmp_path / "exams"))


def test_the_checkers_find_nothing_that_the_synthetic_exams_did_not_have(
    exams: DemoExams, tmp_path: Path, bilinear: Model
) -> None:
    options = UpscaleOptions(picture=False, slices=None if wants_all_slices() else ":2")
    report = upscale(exams.root, tmp_path / "out", bilinear, EngineRequest("torch"), options)
    assert report.failed == 0
    assert len(report.jobs) == len(exams.truths)
    results = [only_series(outcome.output) for outcome in report.outcomes]
    pairs = [
        (old.path, new.path)
        for job, result in zip(report.jobs, results, strict=True)
        for old, new in zip(job.series.slices, result.slices, strict=True)
    ]
    with ThreadPoolExecutor() as threads:
        added = threads.map(lambda both: dciodvfy_errors(both[1]) - dciodvfy_errors(both[0]), pairs)
        assert set().union(*added) == set()
    for job, result in zip(report.jobs, results, strict=True):
        sources = [header.path for header in job.series.slices]
        assert dcentvfy_errors([*sources, *(header.path for header in result.slices)]) <= dcentvfy_errors(sources)
