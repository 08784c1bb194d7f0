"""One run of the viewer: which series, which model, which degradation, and what is known of each slice."""

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Condition, Lock
from typing import Any, Literal

from ctsr.data.hu_cache import open_series
from ctsr.hu import Window
from ctsr.metrics import MetricValue
from ctsr.series import Series
from ctsr.viewer.cache import SliceCache
from ctsr.viewer.engine import Engine, UnwantedError
from ctsr.viewer.geometry import PLANES, geometry_of
from ctsr.viewer.images import Images, PanelName, Picture, Subject
from ctsr.viewer.numbers import Box, measure, statistics
from ctsr.viewer.options import PlaneName
from ctsr.viewer.settings import Settings
from ctsr.viewer.view import View
from ctsr.viewer.work import Ahead, Look

__all__ = ["Session", "Subjects", "Turn"]


NEWS_KEPT = 4096
"""For pages that are slow to listen."""


@dataclass(frozen=True)
class Turn:
    """When something was asked: pages count how often they move to another slice."""

    page: str
    number: int


class Subjects:
    """The series of a view, each opened when it is first asked for."""

    def __init__(self, series: Sequence[Series], store: Path, scale: int, *, assume_hu: bool) -> None:
        self._series, self._store, self._scale, self._assume_hu = tuple(series), store, scale, assume_hu
        self._opened: dict[int, Subject] = {}
        self._lock = Lock()

    def __getitem__(self, number: int) -> Subject:
        """Series `number`; decodes it when it is not in the store yet.

        Raises:
            ReadError: a slice cannot be decoded.
        """
        with self._lock:
            if number not in self._opened:
                one = self._series[number]
                stored = open_series(one, self._store, assume_hu=self._assume_hu)
                self._opened[number] = Subject(number, stored, geometry_of(one, self._scale))
            return self._opened[number]

    def __len__(self) -> int:
        return len(self._series)


class Session:
    """Answers the page's questions. Threads may share it."""

    def __init__(self, view: View, *, store: Path, cache_bytes: int, assume_hu: bool = False) -> None:
        self.view = view
        self.subjects = Subjects(view.series, store, view.scale, assume_hu=assume_hu)
        self.settings = Settings(view.sampler)
        engine = Engine(view.model) if view.model else None
        self.images = Images(SliceCache(cache_bytes), view.scale, view.hu_range, engine)
        self._ahead = Ahead(self.images, self._tell)
        self._news: deque[dict[str, Any]] = deque(maxlen=NEWS_KEPT)
        self._news_number = 0
        self._heard = Condition()
        self._turns: dict[str, int] = {}
        self._tickets: dict[tuple[str, bool], int] = {}
        self._measuring = Lock()
        self.closed = False

    def close(self) -> None:
        """End the work in the background and every wait."""
        self.closed = True
        with self._heard:
            self._heard.notify_all()
        self._ahead.close()

    def geometry(self, number: int) -> dict[str, Any]:
        """Sizes, spacing and marks of a series, which is opened for it."""
        geometry = self.subjects[number].geometry
        return {
            "shape": geometry.shape,
            "spacing": geometry.spacing,
            "z_rows": geometry.z_rows,
            "z_mm": self.subjects[number].stored.z_mm,
            "planes": {
                plane: {
                    "count": geometry.count(plane),
                    "size": geometry.size(plane),
                    "pixel": geometry.pixel(plane),
                    "marks": asdict(geometry.marks[plane]),
                }
                for plane in PLANES
            },
        }

    def picture(self, panel: PanelName, look: Look, plane: PlaneName, index: int) -> Picture:
        """One panel."""
        return self.images.picture(panel, look.subject, look.setting, plane, index)

    def drawn(self, look: Look) -> dict[str, Any]:
        """What one slice was degraded with, and in what that departs from the evaluation or from the start."""
        stored, sampler = look.subject.stored, look.setting.sampler
        draw = sampler.draw(stored.patient_id, stored.series_uid, stored.identities[look.index], look.index)
        params = draw.params
        return {
            "mode": sampler.degradation.mode,
            "sampling": sampler.sampling,
            "deg_seed": sampler.deg_seed,
            "patient_seed": sampler.patient_seed(stored.patient_id),
            "sigma": params.blur_sigma,
            "kernel": params.blur_kernel,
            "noise_sigma": params.noise_sigma,
            "dose": params.dose,
            "noise_hu": params.noise_std * self.view.hu_range.hu_per_unit,
            "departures": self._departures(look),
        }

    def _departures(self, look: Look) -> list[str]:
        """Why this LR is not what was asked for at the start; nothing where it is, to the bit."""
        found: list[str] = []
        if look.setting.number:
            found.append("the degradation was changed here")
        evaluated, stored = self.view.evaluated, look.subject.stored
        if evaluated is not None:
            if stored.patient_id not in evaluated.patients:
                found.append(f"the evaluation did not measure patient {stored.patient_id}")
            elif not evaluated.sampler.knows(stored.patient_id, stored.series_uid, stored.identities[look.index]):
                found.append("the evaluation did not measure this slice")
            if evaluated.mask != "none":
                found.append(f"the evaluation's metrics are of the {evaluated.mask} alone, these of the whole slice")
            if self.view.model:
                found += evaluated.departures_of(self.view.model)
        return found

    def look(self, turn: Turn, look: Look) -> dict[str, Any]:
        """Take this as what is in sight: what was being measured for an earlier turn is given up."""
        self._turns[turn.page] = max(turn.number, self._turns.get(turn.page, 0))
        if turn.number == self._turns[turn.page]:
            self._ahead.look(look)
        return self.drawn(look) | {"progress": self.progress(look)}

    def progress(self, look: Look) -> dict[str, Any]:
        """How much of a series is computed, and whether memory ends it there."""
        count = look.subject.geometry.shape[0]
        panels: tuple[Literal["LR", "SR"], ...] = ("LR", "SR")
        ready = {
            panel: sum(self.images.has(panel, look.subject, look.setting, i) for i in range(count)) for panel in panels
        }
        _, rows, columns = look.subject.geometry.shape
        full = not self.images.cache.fits(4 * rows * columns)
        return {"total": count, "LR": ready["LR"], "SR": ready["SR"], "full": full}

    def numbers(
        self, turn: Turn, look: Look, plane: PlaneName, index: int, window: Window, box: Box | None
    ) -> dict[str, Any]:
        """Metrics of the picture, or of a rectangle of it with the statistics of every panel.

        Raises:
            UnwantedError: the page has moved on meanwhile, or asked for the same thing anew.
        """
        kind = turn.page, box is None
        ticket = self._tickets[kind] = self._tickets.get(kind, 0) + 1

        def unwanted() -> bool:
            moved_on = self._turns.get(turn.page, 0) > turn.number
            return self.closed or moved_on or self._tickets[kind] != ticket

        with self._measuring:
            if unwanted():
                raise UnwantedError
            pictures: dict[PanelName, Picture] = {
                panel: self.picture(panel, look, plane, index) for panel in self.view.panels
            }
            measured = measure(pictures, self.view.methods, box, window, self.view.hu_range, unwanted)
            answer: dict[str, Any] = {
                "metrics": {method: _plain(values) for method, values in measured.items()},
                "sr_missing": bool(self.view.model) and not pictures["SR"].complete,
            }
            if box is not None:
                scale = (self.view.scale if plane == "axial" else 1, self.view.scale)
                answer["statistics"] = statistics(pictures, box, scale, self.view.hu_range)
        return answer

    def news(self, seen: int, timeout_s: float) -> tuple[int, list[dict[str, Any]]]:
        """The slices that became ready after news number `seen`, and the last one's number; waits at most so long."""
        with self._heard:
            if self._news_number <= seen and not self.closed:
                self._heard.wait(timeout_s)
            fresh = min(self._news_number - seen, len(self._news))
            return self._news_number, list(self._news)[len(self._news) - max(0, fresh) :]

    def _tell(self, look: Look, panel: Literal["LR", "SR"], index: int, error: str) -> None:
        with self._heard:
            self._news_number += 1
            self._news.append(
                {
                    "series": look.subject.number,
                    "setting": look.setting.number,
                    "panel": panel,
                    "index": index,
                    "error": error,
                    **self.progress(look),
                }
            )
            self._heard.notify_all()


def _plain(values: dict[str, MetricValue]) -> dict[str, Any]:
    return {name: {"value": one.value, "reason": one.reason} for name, one in values.items()}
