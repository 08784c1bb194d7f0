"""A viewer session: answers the page from cached slices, computed in the background, the one in view first."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Condition, Lock, Thread
from typing import Any, Literal, TypeAlias

from ctsr.data.hu_cache import StoredSeries, default_store, open_series
from ctsr.data.pairs import slice_pair
from ctsr.errors import CtsrError, boundary
from ctsr.hu import Window
from ctsr.metrics import MetricValue
from ctsr.series import Series
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.tuning import strength_of
from ctsr.viewer import PlaneName, ViewOptions
from ctsr.viewer.images import (
    PLANES,
    OpenedSeries,
    PanelImage,
    PanelImages,
    PanelName,
    Slab,
    SliceCache,
    body_boxes,
    view_geometry,
)
from ctsr.viewer.native import BetweenImages, NativeImages, open_between
from ctsr.viewer.roi_metrics import PixelRect, coverage, measure, statistics
from ctsr.viewer.samplers import InterruptibleModel, Setting, SettingRegistry, StaleRequestError
from ctsr.viewer.state import ViewerState

MAX_EVENTS = 4096
"""Events kept for pages that are slow to read them."""

IDLE_S = 0.2
"""SR starts only when the slice in view has not changed for this long, so that scrolling keeps the CPU."""
TUNING = -1
"""In place of a slice's index: what is measured of the whole series after the slice in view."""
NEIGHBOURS = 2
"""Slices on either side of the one in view that are computed even if others must be evicted for them."""


@dataclass(frozen=True)
class PageTurn:
    """When a page asked: pages count how often they moved to another slice."""

    page: str
    number: int


class SeriesOpener:
    """The series of a viewer, each decoded when it is first asked for. Thread-safe."""

    def __init__(
        self, series: Sequence[Series], store: Path, scale: int, *, assume_hu: bool, native: UpscaleOptions | None
    ) -> None:
        self._series, self._store, self._scale, self._assume_hu = tuple(series), store, scale, assume_hu
        self._native = native
        self._opened: dict[int, OpenedSeries] = {}
        self._lock = Lock()

    def __getitem__(self, number: int) -> OpenedSeries:
        """Series `number`; decodes it if it is not in the store yet.

        Raises:
            ReadError: a slice cannot be decoded.
        """
        with self._lock:
            if number not in self._opened:
                series = self._series[number]
                stored = open_series(series, self._store, assume_hu=self._assume_hu)
                self._opened[number] = self._with_geometry(number, series, stored)
            return self._opened[number]

    def __len__(self) -> int:
        return len(self._series)

    def _with_geometry(self, number: int, series: Series, stored: StoredSeries) -> OpenedSeries:
        if self._native is not None and self._native.wanted_slice_spacing is not None:
            return open_between(number, series, stored, self._native, assume_hu=self._assume_hu)
        geometry = view_geometry(series, self._scale, native=self._native is not None)
        return OpenedSeries(number, stored, geometry, series)


@dataclass(frozen=True, eq=False)
class ViewedSlice:
    """The slice that a page shows."""

    series: OpenedSeries
    setting: Setting
    index: int
    """Axial slice of the series, also where another plane is shown."""
    reformatted: bool = False
    """A coronal or sagittal plane is shown, which needs every axial slice."""


class ViewerSession:
    """Answers the page's requests. Thread-safe."""

    def __init__(self, state: ViewerState, *, store: Path, cache_bytes: int, assume_hu: bool = False) -> None:
        self.state = state
        self.series = SeriesOpener(state.series, store, state.scale, assume_hu=assume_hu, native=state.strength)
        self.settings = SettingRegistry(state.sampler, state.strength)
        self.images = _panel_images(state, SliceCache(cache_bytes), assume_hu)
        self._prefetcher = Prefetcher(self.images, self._report)
        self._events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self._last_event = 0
        self._clock = itertools.count()
        self._event_added = Condition()
        self._turns: dict[str, int] = {}
        self._tickets: dict[tuple[str, bool], int] = {}
        self._measuring = Lock()
        self.closed = False

    def close(self) -> None:
        """Stop the background work and everything that waits for it."""
        self.closed = True
        with self._event_added:
            self._event_added.notify_all()
        self._prefetcher.close()

    def geometry(self, number: int) -> dict[str, Any]:
        """Sizes, spacing and edge labels of a series, which is decoded for it."""
        geometry = self.series[number].geometry
        return {
            "shape": geometry.shape,
            "spacing": geometry.spacing,
            "crop": [side.start for side in geometry.crop],
            "z_rows": geometry.z_rows,
            "z_mm": self.series[number].z_mm,
            "source_mm": geometry.source_mm,
            "body": body_boxes(self.series[number]),
            "doubts": self.series[number].doubts(names=self.state.names),
            "planes": {
                plane: {
                    "count": geometry.count(plane),
                    "size": geometry.size(plane),
                    "pixel": geometry.pixel(plane),
                    "marks": asdict(geometry.edge_labels[plane]),
                }
                for plane in PLANES
            },
        }

    def image(
        self, panel: PanelName, viewed: ViewedSlice, plane: PlaneName, index: int, slab: Slab | None = None
    ) -> PanelImage:
        """One panel of one plane, or what a slab of several of its images is projected to."""
        if slab is not None:
            return self.images.slab(panel, viewed.series, viewed.setting, plane, index, slab)
        return self.images.image(panel, viewed.series, viewed.setting, plane, index)

    def made_with(self, viewed: ViewedSlice) -> dict[str, Any]:
        """The degradation of a slice; of images as they are, the strength and what it does to the series."""
        strength = viewed.setting.strength
        if strength is None or not isinstance(self.images, NativeImages | BetweenImages):
            return self.degradation(viewed)
        described = self.images.described(viewed.series, viewed.setting)
        return {"strength": asdict(strength_of(strength)), "limit_noise": strength.limit_noise} | described

    def degradation(self, viewed: ViewedSlice) -> dict[str, Any]:
        """Degradation parameters of one slice, and how they differ from the evaluation or the initial setting."""
        stored, sampler = viewed.series.stored, viewed.setting.sampler
        params = sampler.draw(
            stored.patient_id, stored.series_uid, stored.identities[viewed.index], viewed.index
        ).params
        if params.noise_model == "exam":  # its strength is measured when LR is made
            params = slice_pair(stored, viewed.index, sampler, self.state.hu_range).draw.params
        return {
            "mode": sampler.degradation.mode,
            "sampling": sampler.sampling,
            "deg_seed": sampler.deg_seed,
            "patient_seed": sampler.patient_seed(stored.patient_id),
            "sigma": params.blur_sigma,
            "kernel": params.blur_kernel,
            "noise_sigma": params.noise_sigma,
            "dose": params.dose,
            "noise_hu": params.noise_std * self.state.hu_range.hu_per_unit,
            "told": self._told(viewed),
            "departures": self._departures(viewed),
        }

    def _told(self, viewed: ViewedSlice) -> dict[str, Any] | None:
        """What the model is told of a slice where that is not what LR was made with."""
        model, source = self.state.model, self.state.conditions
        if model is None or not model.conditional or source.kind == "drawn":
            return None
        told = self.images.told(viewed.series, viewed.setting, viewed.index)
        noise_hu = told.noise_sigma * self.state.hu_range.hu_per_unit
        return {"source": source.kind, "sigma": told.blur_sigma, "noise_hu": noise_hu}

    def _departures(self, viewed: ViewedSlice) -> list[str]:
        """Reasons why LR or metrics are not those asked for at the start; empty where they are, bit for bit."""
        found: list[str] = []
        if viewed.setting.number:
            found.append("the degradation was changed here")
        evaluated, stored = self.state.evaluated, viewed.series.stored
        if evaluated is None:
            return found
        if not evaluated.has_patient(stored.patient_id):
            found.append(f"the evaluation did not measure patient {self.state.shown(stored.patient_id)}")
        elif not evaluated.sampler.has_record(stored.patient_id, stored.series_uid, stored.identities[viewed.index]):
            found.append("the evaluation did not measure this slice")
        if evaluated.mask != "none":
            found.append(f"the evaluation measured the {evaluated.mask} only, the viewer measures the whole slice")
        if self.state.model:
            found += evaluated.departures_of(self.state.model)
        return found

    def view(self, turn: PageTurn, viewed: ViewedSlice) -> dict[str, Any]:
        """Make this the slice in view; measurements for earlier turns of the page are cancelled."""
        self._turns[turn.page] = max(turn.number, self._turns.get(turn.page, 0))
        if turn.number == self._turns[turn.page]:
            self._prefetcher.view(viewed)
        return self.made_with(viewed) | {"progress": self.progress(viewed)}

    def progress(self, viewed: ViewedSlice) -> dict[str, Any]:
        """How many slices are computed, and whether the cache is full; the larger `clock`, the newer."""
        clock = next(self._clock)
        count, rows, columns = viewed.series.geometry.shape
        panels: tuple[Literal["LR", "SR"], ...] = ("LR", "SR")
        ready: dict[str, Any] = {}
        for panel in panels:
            found = [i for i in range(count) if self.images.has(panel, viewed.series, viewed.setting, i)]
            ready |= {panel: len(found), f"{panel}_runs": runs(found)}
        return {"clock": clock, "total": count, **ready, "full": not self.images.cache.fits(4 * rows * columns)}

    def numbers(
        self,
        turn: PageTurn,
        viewed: ViewedSlice,
        plane: PlaneName,
        index: int,
        window: Window,
        rect: PixelRect | None,
    ) -> dict[str, Any]:
        """Metrics of an image, or of a rectangle in it together with statistics of every panel.

        Raises:
            StaleRequestError: the page moved on meanwhile, or asked for the same again.
        """
        kind = turn.page, rect is None
        ticket = self._tickets[kind] = self._tickets.get(kind, 0) + 1

        def is_cancelled() -> bool:
            moved_on = self._turns.get(turn.page, 0) > turn.number
            return self.closed or moved_on or self._tickets[kind] != ticket

        with self._measuring:
            if is_cancelled():
                raise StaleRequestError
            images: dict[PanelName, PanelImage] = {
                panel: self.image(panel, viewed, plane, index) for panel in self.state.panels
            }
            answer: dict[str, Any] = {"metrics": {}, "coverage": None}
            if "HR" in images and not (rect and rect.is_ellipse):  # metrics compare whole rectangles
                measured = measure(images, self.state.methods, rect, window, self.state.hu_range, is_cancelled)
                answer["metrics"] = {method: _metrics_dict(values) for method, values in measured.items()}
                answer["coverage"] = asdict(coverage(images["HR"], rect, window, self.state.hu_range))
            answer["sr_missing"] = bool(self.state.model) and not images["SR"].complete
            if rect is not None:
                scale = (self.state.scale if plane == "axial" else 1, self.state.scale)
                answer["statistics"] = statistics(images, rect, scale, self.state.hu_range)
        return answer

    def events(self, after: int, timeout_s: float) -> tuple[int, list[dict[str, Any]]]:
        """Number of the last event, and the events after number `after`; waits up to `timeout_s` for one."""
        with self._event_added:
            if self._last_event <= after and not self.closed:
                self._event_added.wait(timeout_s)
            new = max(0, min(self._last_event - after, len(self._events)))
            return self._last_event, list(self._events)[len(self._events) - new :]

    def _report(self, viewed: ViewedSlice, panel: Literal["LR", "SR"], index: int, error: str) -> None:
        event = {
            "series": viewed.series.number,
            "setting": viewed.setting.number,
            "panel": panel,
            "index": index,
            "error": self.state.shown_failure(error),
        }
        with self._event_added:
            self._last_event += 1
            self._events.append(event | self.progress(viewed))
            self._event_added.notify_all()


def _panel_images(state: ViewerState, cache: SliceCache, assume_hu: bool) -> PanelImages:
    if state.strength is not None and state.model is not None:
        if state.strength.wanted_slice_spacing is not None:
            return BetweenImages(cache, state.model, assume_hu=assume_hu)
        return NativeImages(cache, state.model, assume_hu=assume_hu)
    model = InterruptibleModel(state.model) if state.model else None
    return PanelImages(cache, state.scale, state.hu_range, model, state.conditions, state.baselines)


def open_session(state: ViewerState, options: ViewOptions) -> ViewerSession:
    """Start a session with its cache and background threads."""
    store = options.store or default_store()
    return ViewerSession(state, store=store, cache_bytes=options.cache_mb * 2**20, assume_hu=options.assume_hu)


def _place(panel: Literal["LR", "SR"], viewed: ViewedSlice, index: int) -> tuple[str, int, int, int]:
    return panel, viewed.series.number, viewed.setting.number, index


Report: TypeAlias = Callable[[ViewedSlice, Literal["LR", "SR"], int, str], None]
"""Called with the slice in view, the panel, the index of a finished slice, and an error message or ``""``."""


def runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as runs, from the first to before the last: ``[0, 1, 2, 5]`` → ``[(0, 3), (5, 6)]``."""
    found: list[tuple[int, int]] = []
    for index in indices:
        if found and found[-1][1] == index:
            found[-1] = found[-1][0], index + 1
        else:
            found.append((index, index + 1))
    return found


def nearest_first(index: int, count: int) -> Iterator[int]:
    """``index, index + 1, index − 1, index + 2 …`` within ``0 … count − 1``."""
    yield index
    for step in range(1, count):
        if index + step < count:
            yield index + step
        if index >= step:
            yield index - step


class Prefetcher:
    """Two threads: one computes SR, which is slow, the other LR, from which coronal and sagittal images are made.

    `report` is called from either thread for each slice that is ready or failed.
    """

    def __init__(self, images: PanelImages, report: Report) -> None:
        self._images, self._report = images, report
        self._viewed: ViewedSlice | None = None
        self._viewed_since = 0.0
        self._failed: set[tuple[str, int, int, int]] = set()
        self._changed = Condition()
        self._closed = False
        self._threads = [Thread(target=self._run_lr, daemon=True)]
        if images.model is not None:
            self._threads.append(Thread(target=self._run_sr, daemon=True))
        for thread in self._threads:
            thread.start()

    def view(self, viewed: ViewedSlice) -> None:
        """Make this the slice in view."""
        with self._changed:
            self._viewed, self._viewed_since = viewed, time.monotonic()
            # Looked at again, it is tried again: a share that was gone may be back.
            self._failed -= {_place(panel, viewed, viewed.index) for panel in ("LR", "SR")}
            self._changed.notify_all()

    def close(self) -> None:
        """Stop both threads; a slice that is being computed is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run_lr(self) -> None:
        while (job := self._wait_for(lambda viewed: self._next("LR", viewed, viewed.reformatted), 0.0)) is not None:
            viewed, index = job
            if self._attempt("LR", viewed, index, partial(self._images.lr, viewed.series, viewed.setting, index)):
                self._report(viewed, "LR", index, "")

    def _run_sr(self) -> None:
        while (job := self._wait_for(lambda viewed: self._next("SR", viewed, True), IDLE_S)) is not None:
            self._compute_sr(*job)

    def _wait_for(
        self, next_index: Callable[[ViewedSlice], int | None], idle_s: float
    ) -> tuple[ViewedSlice, int] | None:
        """Block until there is a slice to compute; None when closed."""
        with self._changed:
            while not self._closed:
                remaining_s = self._viewed_since + idle_s - time.monotonic()
                if self._viewed is not None and remaining_s > 0:
                    self._changed.wait(remaining_s)
                elif self._viewed is not None and (index := next_index(self._viewed)) is not None:
                    return self._viewed, index
                else:
                    self._changed.wait()
        return None

    def _next(self, panel: Literal["LR", "SR"], viewed: ViewedSlice, background: bool) -> int | None:
        """The nearest slice that is missing; beyond the neighbours only while nothing must be evicted for it."""
        count, rows, columns = viewed.series.geometry.shape
        num_bytes = 4 * rows * columns // (self._images.scale**2 if panel == "LR" else 1)
        for index in nearest_first(viewed.index, count):
            if index != viewed.index and panel == "SR" and self._needs_tuning(viewed):
                return TUNING
            if abs(index - viewed.index) > NEIGHBOURS and not (background and self._images.cache.fits(num_bytes)):
                return None
            if _place(panel, viewed, index) not in self._failed and not self._images.has(
                panel, viewed.series, viewed.setting, index
            ):
                return index
        return TUNING if panel == "SR" and self._needs_tuning(viewed) else None  # of a series of one slice

    def _needs_tuning(self, viewed: ViewedSlice) -> bool:
        is_tuned = self._images.is_tuned(viewed.series, viewed.setting)
        return not is_tuned and _place("SR", viewed, TUNING) not in self._failed

    def _compute_sr(self, viewed: ViewedSlice, index: int) -> None:
        method = partial(self._images.compute_sr, index=index) if index != TUNING else self._images.tune
        compute = partial(method, viewed.series, viewed.setting, is_cancelled=lambda: self._is_stale(viewed, index))
        if self._attempt("SR", viewed, index, compute):
            for ready in (TUNING,) if index == TUNING else self._images.batch(viewed.series, index):
                self._report(viewed, "SR", ready, "")

    def _attempt(self, panel: Literal["LR", "SR"], viewed: ViewedSlice, index: int, compute: Callable[[], Any]) -> bool:
        """Whether a slice was made. One that cannot be is reported, and the thread goes on with the others."""
        try:
            with boundary(f"slice {index}"), suppress(StaleRequestError):
                compute()
                return True
        except CtsrError as error:
            self._failed.add(_place(panel, viewed, index))
            self._report(viewed, panel, index, str(error))
        return False

    def _is_stale(self, started_for: ViewedSlice, index: int) -> bool:
        """Whether another degradation or series is shown meanwhile, or a slice in view whose SR is to be made."""
        viewed = self._viewed
        if self._closed or viewed is None:
            return True
        if (viewed.series.number, viewed.setting.number) != (started_for.series.number, started_for.setting.number):
            return True
        if index != TUNING and viewed.index in self._images.batch(viewed.series, index):
            return False
        waits = not self._images.has("SR", viewed.series, viewed.setting, viewed.index)
        return index != viewed.index and waits and _place("SR", viewed, viewed.index) not in self._failed


def _metrics_dict(values: dict[str, MetricValue]) -> dict[str, Any]:
    return {name: {"value": metric.value, "reason": metric.reason} for name, metric in values.items()}
