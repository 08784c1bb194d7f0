"""Background computation of slices: the slice in view first, then its neighbours, then the rest."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Literal, TypeAlias

from ctsr.viewer.images import OpenedSeries, PanelImages
from ctsr.viewer.inference import StaleRequestError
from ctsr.viewer.samplers import Setting

IDLE_S = 0.2
"""SR starts only when the slice in view has not changed for this long, so that scrolling keeps the CPU."""
NEIGHBOURS = 2
"""Slices on either side of the one in view that are computed even if others must be evicted for them."""


@dataclass(frozen=True, eq=False)
class ViewedSlice:
    """The slice that a page shows."""

    series: OpenedSeries
    setting: Setting
    index: int
    """Axial slice of the series, also where another plane is shown."""
    reformatted: bool = False
    """A coronal or sagittal plane is shown, which needs every axial slice."""


Report: TypeAlias = Callable[[ViewedSlice, Literal["LR", "SR"], int, str], None]
"""Called with the slice in view, the panel, the index of a finished slice, and an error message or ``""``."""


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
        self._failed: set[tuple[int, int, int]] = set()
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
            self._images.lr(viewed.series, viewed.setting, index)
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
            if abs(index - viewed.index) > NEIGHBOURS and not (background and self._images.cache.fits(num_bytes)):
                return None
            failed = (viewed.series.number, viewed.setting.number, index) in self._failed
            if not failed and not self._images.has(panel, viewed.series, viewed.setting, index):
                return index
        return None

    def _compute_sr(self, viewed: ViewedSlice, index: int) -> None:
        try:
            self._images.compute_sr(viewed.series, viewed.setting, index, lambda: self._is_stale(viewed, index))
        except StaleRequestError:
            return
        except (RuntimeError, MemoryError) as error:  # PyTorch raises either when memory does not suffice
            self._failed.add((viewed.series.number, viewed.setting.number, index))
            self._report(viewed, "SR", index, str(error))
        else:
            self._report(viewed, "SR", index, "")

    def _is_stale(self, started_for: ViewedSlice, index: int) -> bool:
        """Whether another degradation or series is shown meanwhile, or a slice in view whose SR is missing."""
        viewed = self._viewed
        if self._closed or viewed is None:
            return True
        if (viewed.series.number, viewed.setting.number) != (started_for.series.number, started_for.setting.number):
            return True
        return index != viewed.index and not self._images.has("SR", viewed.series, viewed.setting, viewed.index)
