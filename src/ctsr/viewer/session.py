"""A viewer session: answers the page's requests from cached slices, and tells pages what became ready."""

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Condition, Lock
from typing import Any, Literal

from ctsr.data.hu_cache import default_store, open_series
from ctsr.data.pairs import slice_pair
from ctsr.hu import Window
from ctsr.metrics import MetricValue
from ctsr.series import Series
from ctsr.viewer.geometry import PLANES, view_geometry
from ctsr.viewer.images import OpenedSeries, PanelImage, PanelImages, PanelName, SliceCache
from ctsr.viewer.inference import InterruptibleModel, StaleRequestError
from ctsr.viewer.options import PlaneName, ViewOptions
from ctsr.viewer.prefetch import Prefetcher, ViewedSlice
from ctsr.viewer.roi_metrics import PixelRect, coverage, measure, statistics
from ctsr.viewer.samplers import SettingRegistry
from ctsr.viewer.state import ViewerState

MAX_EVENTS = 4096
"""Events kept for pages that are slow to read them."""


@dataclass(frozen=True)
class PageTurn:
    """When a page asked: pages count how often they moved to another slice."""

    page: str
    number: int


class SeriesOpener:
    """The series of a viewer, each decoded when it is first asked for. Thread-safe."""

    def __init__(self, series: Sequence[Series], store: Path, scale: int, *, assume_hu: bool) -> None:
        self._series, self._store, self._scale, self._assume_hu = tuple(series), store, scale, assume_hu
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
                self._opened[number] = OpenedSeries(number, stored, view_geometry(series, self._scale))
            return self._opened[number]

    def __len__(self) -> int:
        return len(self._series)


class ViewerSession:
    """Answers the page's requests. Thread-safe."""

    def __init__(self, state: ViewerState, *, store: Path, cache_bytes: int, assume_hu: bool = False) -> None:
        self.state = state
        self.series = SeriesOpener(state.series, store, state.scale, assume_hu=assume_hu)
        self.settings = SettingRegistry(state.sampler)
        model = InterruptibleModel(state.model) if state.model else None
        self.images = PanelImages(SliceCache(cache_bytes), state.scale, state.hu_range, model, state.conditions)
        self._prefetcher = Prefetcher(self.images, self._report)
        self._events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self._last_event = 0
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
            "z_rows": geometry.z_rows,
            "z_mm": self.series[number].stored.z_mm,
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

    def image(self, panel: PanelName, viewed: ViewedSlice, plane: PlaneName, index: int) -> PanelImage:
        """One panel of one plane."""
        return self.images.image(panel, viewed.series, viewed.setting, plane, index)

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
        if stored.patient_id not in evaluated.patients:
            found.append(f"the evaluation did not measure patient {stored.patient_id}")
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
        return self.degradation(viewed) | {"progress": self.progress(viewed)}

    def progress(self, viewed: ViewedSlice) -> dict[str, Any]:
        """How many slices are computed, and whether the cache is full."""
        count, rows, columns = viewed.series.geometry.shape
        panels: tuple[Literal["LR", "SR"], ...] = ("LR", "SR")
        ready = {
            panel: sum(self.images.has(panel, viewed.series, viewed.setting, i) for i in range(count))
            for panel in panels
        }
        return {"total": count, **ready, "full": not self.images.cache.fits(4 * rows * columns)}

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
            measured = measure(images, self.state.methods, rect, window, self.state.hu_range, is_cancelled)
            answer: dict[str, Any] = {
                "metrics": {method: _metrics_dict(values) for method, values in measured.items()},
                "coverage": asdict(coverage(images["HR"], rect, window, self.state.hu_range)),
                "sr_missing": bool(self.state.model) and not images["SR"].complete,
            }
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
            "error": error,
        }
        with self._event_added:
            self._last_event += 1
            self._events.append(event | self.progress(viewed))
            self._event_added.notify_all()


def open_session(state: ViewerState, options: ViewOptions) -> ViewerSession:
    """Start a session with its cache and background threads."""
    store = options.store or default_store()
    return ViewerSession(state, store=store, cache_bytes=options.cache_mb * 2**20, assume_hu=options.assume_hu)


def _metrics_dict(values: dict[str, MetricValue]) -> dict[str, Any]:
    return {name: {"value": metric.value, "reason": metric.reason} for name, metric in values.items()}
