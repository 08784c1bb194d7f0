"""What is computed before it is asked for: the slice in sight, its neighbours, then the rest, nearest first."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Literal

from ctsr.viewer.engine import UnwantedError
from ctsr.viewer.images import Images, Subject
from ctsr.viewer.settings import Setting

__all__ = ["Ahead", "Look", "outwards"]

CALM_S = 0.2
"""SR waits until nobody has gone through slices for so long: else it takes the cores from the next slice."""
NEIGHBOURS = 2
"""Slices on either side of the one in sight that are made even when something older must go for it."""


@dataclass(frozen=True, eq=False)
class Look:
    """What is in sight."""

    subject: Subject
    setting: Setting
    index: int
    """Slice of the series, also where another plane is shown."""
    reformatted: bool = False
    """Coronal or sagittal: every slice is in sight, by one row."""


def outwards(index: int, count: int) -> Iterator[int]:
    """``index, index + 1, index − 1, index + 2 …`` as far as there are slices."""
    yield index
    for step in range(1, count):
        yield from (one for one in (index + step, index - step) if 0 <= one < count)


class Ahead:
    """Two threads: one makes SR, which is slow, the other LR, which coronal and sagittal pictures are made of.

    `tell` hears, from either thread, of each slice that is ready, or of an error.
    """

    def __init__(self, images: Images, tell: Callable[[Look, Literal["LR", "SR"], int, str], None]) -> None:
        self._images, self._tell = images, tell
        self._look: Look | None = None
        self._looked_at = 0.0
        self._failed: set[tuple[int, int, int]] = set()
        self._changed = Condition()
        self._closed = False
        self._threads = [Thread(target=self._run, args=(self._next_lr, self._make_lr, 0.0), daemon=True)]
        if images.engine is not None:
            self._threads.append(Thread(target=self._run, args=(self._next_sr, self._make_sr, CALM_S), daemon=True))
        for thread in self._threads:
            thread.start()

    def look(self, look: Look) -> None:
        """Take this as what is in sight from now on."""
        with self._changed:
            self._look, self._looked_at = look, time.monotonic()
            self._changed.notify_all()

    def close(self) -> None:
        """End both threads; what they are at is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self, following: Callable[[Look], int | None], make: Callable[[Look, int], None], calm_s: float) -> None:
        while (work := self._wait_for(following, calm_s)) is not None:
            make(*work)

    def _wait_for(self, following: Callable[[Look], int | None], calm_s: float) -> tuple[Look, int] | None:
        with self._changed:
            while not self._closed:
                restless_s = self._looked_at + calm_s - time.monotonic()
                if self._look is not None and restless_s > 0:
                    self._changed.wait(restless_s)
                elif self._look is not None and (index := following(self._look)) is not None:
                    return self._look, index
                else:
                    self._changed.wait()
        return None

    def _next_lr(self, look: Look) -> int | None:
        return self._next("LR", look, look.reformatted)

    def _next_sr(self, look: Look) -> int | None:
        return self._next("SR", look, True)

    def _next(self, panel: Literal["LR", "SR"], look: Look, background: bool) -> int | None:
        """The nearest slice that is not there yet; beyond the neighbours only while nothing must go for it."""
        _, rows, columns = look.subject.geometry.shape
        size = 4 * rows * columns // (self._images.scale**2 if panel == "LR" else 1)
        for index in outwards(look.index, look.subject.geometry.shape[0]):
            if abs(index - look.index) > NEIGHBOURS and not (background and self._images.cache.fits(size)):
                return None
            known = (look.subject.number, look.setting.number, index) in self._failed
            if not known and not self._images.has(panel, look.subject, look.setting, index):
                return index
        return None

    def _make_lr(self, look: Look, index: int) -> None:
        self._images.lr(look.subject, look.setting, index)
        self._tell(look, "LR", index, "")

    def _make_sr(self, look: Look, index: int) -> None:
        try:
            self._images.make_sr(look.subject, look.setting, index, lambda: self._is_stale(look, index))
        except UnwantedError:
            return
        except (RuntimeError, MemoryError) as error:  # what PyTorch raises when memory does not suffice
            self._failed.add((look.subject.number, look.setting.number, index))
            self._tell(look, "SR", index, str(error))
        else:
            self._tell(look, "SR", index, "")

    def _is_stale(self, begun: Look, index: int) -> bool:
        """Whether something else is more urgent: another degradation or series, or a slice in sight that is missing."""
        now = self._look
        if self._closed or now is None:
            return True
        if (now.subject.number, now.setting.number) != (begun.subject.number, begun.setting.number):
            return True
        return index != now.index and not self._images.has("SR", now.subject, now.setting, now.index)
