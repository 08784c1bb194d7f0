"""`view`: from a path, a model and flags to a session, an open page, or one picture."""

import webbrowser
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TypeVar

from ctsr.data.hu_cache import default_store
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.errors import CtsrError, UsageError
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.hu import DEFAULT_RANGE, MetricWindow, choose_window
from ctsr.infer.calibration import Calibration, trial_pairs
from ctsr.infer.choose import AskedFor
from ctsr.infer.trial import Pair
from ctsr.paths import resolve_path
from ctsr.progress import SILENT, Progress, Silent
from ctsr.series import Series
from ctsr.text import listed
from ctsr.viewer.options import LOOPBACK, ViewOptions
from ctsr.viewer.patients import find_series
from ctsr.viewer.replay import Evaluated, read_summary
from ctsr.viewer.server import ViewServer
from ctsr.viewer.session import Session
from ctsr.viewer.view import View

__all__ = ["Wanted", "open_session", "prepare", "serve"]

T = TypeVar("T")

PRESET = "soft_tissue"
"""The window where none is asked for and no evaluation names one."""
NAMED = 5
"""Patients that a message lists."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """What to look at, and with which model."""

    path: Path
    model: ModelUnderTest | None
    degradation: Degradation
    options: ViewOptions
    given: frozenset[str] = frozenset()
    """The names of the flags that were given, for saying which of them an evaluation overrules."""
    calibration: Calibration | None = None
    """For int8: images that set its scales."""


def prepare(wanted: Wanted, progress: Progress = SILENT) -> View:
    """Find the series and settle window and degradation.

    Raises:
        MissingInputError: there is nothing to show.
        UsageError: the evaluation is for another scale; the index is beyond the series; or there is no such engine.
    """
    options, model = wanted.options, wanted.model
    path = resolve_path(wanted.path, progress=progress)
    summary = None if options.eval_summary is None else resolve_path(options.eval_summary, progress=progress)
    evaluated = None if summary is None else read_summary(summary)
    known = {name for names in ((model.split if model else None) or {}).values() for name in names}
    known |= set(evaluated.patients if evaluated else ())
    heard = _Heard(progress)
    found = find_series(path, known=known, assume_hu=options.assume_hu, progress=heard)
    sampler = _sampler(wanted, evaluated, progress)
    if evaluated and not any(one.patient_id in evaluated.patients for one in found.series):
        theirs = listed(evaluated.patients, NAMED)
        heard.note(
            f"the evaluation measured none of these patients (it has {theirs}): LR is drawn as it would have been"
        )
    return View(
        series=found.series,
        first=found.first,
        model=_on_engine(wanted, found.series, progress),
        scale=sampler.degradation.scale,
        sampler=sampler,
        window=_window(options, evaluated),
        evaluated=evaluated,
        plane=options.plane,
        index=options.index,
        notes=tuple(heard.notes),
    )


def _on_engine(wanted: Wanted, series: Sequence[Series], progress: Progress) -> ModelUnderTest | None:
    """The model run by the engine that was asked for; int8 is checked on what is to be seen."""
    options, model = wanted.options, wanted.model
    if model is None:
        return None

    def trial() -> list[Pair]:
        return trial_pairs(series, model.generator, wanted.calibration, assume_hu=options.assume_hu)

    asked = AskedFor(options.engine, options.precision, str(model.device), wanted.calibration)
    return model.on_engine(asked, trial, progress)


class _Heard(Silent):
    """Hands news on and remembers it, for the page to show as well."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.notes: list[str] = []

    def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
        yield from self._progress.track(items, total=total, what=what)

    def note(self, message: str) -> None:
        self.notes.append(message)
        self._progress.note(message)


def open_session(view: View, options: ViewOptions) -> Session:
    """A session of the view, with its cache and its threads."""
    store = options.store or default_store()
    return Session(view, store=store, cache_bytes=options.cache_mb * 2**20, assume_hu=options.assume_hu)


def serve(session: Session, options: ViewOptions, progress: Progress = SILENT) -> None:
    """Listen, say where, open a browser, and stay until the process is interrupted.

    Raises:
        UsageError: the address cannot be listened on.
    """
    if options.host not in LOOPBACK:
        progress.note(
            f"warning: --host {options.host} lets other computers in: whoever has the address sees these images, "
            "and the connection is not encrypted"
        )
    with ViewServer(session, host=options.host, port=options.port) as server:
        progress.note(f"Viewer: {server.address}")
        progress.note("Ctrl-C ends it.")
        # While the browser starts, the first series is decoded.
        Thread(target=_open_first, args=(session,), daemon=True).start()
        if not options.no_browser:
            webbrowser.open(server.address)
        server.serve_forever()


def _open_first(session: Session) -> None:
    with suppress(CtsrError, OSError):  # the page asks again, and shows why it cannot be
        session.subjects[session.view.first]


def _sampler(wanted: Wanted, evaluated: Evaluated | None, progress: Progress) -> DegradationSampler:
    options, degradation = wanted.options, wanted.degradation
    asked = DegradationSampler(degradation, options.degradation_sampling, options.deg_seed, options.deg_seed_mode)
    if evaluated is None:
        return asked
    replayed = evaluated.sampler
    if replayed.degradation.scale != degradation.scale:
        raise UsageError(
            f"--eval_summary is of an evaluation at ×{replayed.degradation.scale}, the model is for "
            f"×{degradation.scale}: they do not belong together"
        )
    flags = asked.degradation.as_flags() | _seeds(asked)
    recorded = replayed.degradation.as_flags() | _seeds(replayed)
    if overruled := [name for name in flags if name in wanted.given and flags[name] != recorded[name]]:
        progress.note(f"warning: --eval_summary overrules --{', --'.join(overruled)}")
    return replayed


def _seeds(sampler: DegradationSampler) -> dict[str, object]:
    return {
        "degradation_sampling": sampler.sampling,
        "deg_seed": sampler.deg_seed,
        "deg_seed_mode": sampler.seed_mode,
    }


def _window(options: ViewOptions, evaluated: Evaluated | None) -> MetricWindow:
    asked = options.preset, options.window_center, options.window_width
    if asked == (None, None, None):
        if evaluated is not None:
            return MetricWindow(evaluated.window, evaluated.window_tag)
        return choose_window(DEFAULT_RANGE, PRESET)
    return choose_window(DEFAULT_RANGE, *asked)
