"""The questions a page may ask, by name, and the answers as bytes."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl

from ctsr.errors import UsageError
from ctsr.hu import Window
from ctsr.viewer.geometry import PLANES
from ctsr.viewer.numbers import Box
from ctsr.viewer.options import PlaneName
from ctsr.viewer.session import Session, Turn
from ctsr.viewer.settings import changed
from ctsr.viewer.work import Look

__all__ = ["Reply", "answer", "events"]

HEARTBEAT_S = 15.0
"""A line now and then shows whether the page is still there."""

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """What goes back to the page."""

    body: bytes
    kind: str = "application/json"
    status: HTTPStatus = HTTPStatus.OK
    headers: dict[str, str] = field(default_factory=dict[str, str])


def answer(session: Session, name: str, query: str, body: bytes | None) -> Reply:
    """The answer to a question.

    Args:
        session: whom to ask.
        name: one of `QUESTIONS` or `WISHES`.
        query: what stands behind the ``?``.
        body: JSON of a POST; None for a GET.

    Raises:
        UsageError: no such question, or something in it is missing or misshapen.
        UnwantedError: the page has asked for something else meanwhile.
    """
    asked = _Asked(session, dict(parse_qsl(query)))
    if body is not None:
        if name not in WISHES:
            raise UsageError(f"nothing is called {name!r}")
        return _json(WISHES[name](asked, _document(body)))
    if name == "image":
        return _image(asked)
    if name not in QUESTIONS:
        raise UsageError(f"nothing is called {name!r}")
    return _json(QUESTIONS[name](asked))


def events(session: Session) -> Iterator[str]:
    """Server-sent events: a line of JSON for each slice that becomes ready, and a comment now and then."""
    seen, _ = session.news(0, 0)  # what was before, a page learns by asking
    yield ": listening\n\n"
    while not session.closed:
        seen, news = session.news(seen, HEARTBEAT_S)
        yield "".join(f"data: {json.dumps(one)}\n\n" for one in news) or ": still here\n\n"


@dataclass(frozen=True)
class _Asked:
    """A question's parameters, each checked when it is read."""

    session: Session
    values: Mapping[str, str]

    def number(self, name: str, below: int) -> int:
        text = self.values.get(name, "")
        if not text.isascii() or not text.isdigit() or int(text) >= below:
            raise UsageError(f"{name} must be a whole number below {below}, got {text!r}")
        return int(text)

    def one_of(self, name: str, choices: tuple[T, ...]) -> T:
        found = self.values.get(name)
        if found not in choices:
            raise UsageError(f"{name} must be one of {', '.join(map(str, choices))}, got {found!r}")
        return cast("T", found)

    def measure(self, name: str) -> float:
        try:
            return float(self.values.get(name, ""))
        except ValueError as error:
            raise UsageError(f"{name} must be a number, got {self.values.get(name)!r}") from error

    @property
    def plane(self) -> PlaneName:
        return self.one_of("plane", PLANES)

    def turn(self) -> Turn:
        """Which page asks, and how often it had moved on by then."""
        return Turn(self.values.get("page", ""), self.number("turn", 2**31))

    def look(self) -> Look:
        """Series, degradation and slice; in other planes the slice is the one under the cursor."""
        subject = self.session.subjects[self.number("series", len(self.session.subjects))]
        setting = self.session.settings[self.number("setting", 2**31)]
        count = subject.geometry.shape[0]
        return Look(subject, setting, self.number("slice", count), self.values.get("reformatted") == "1")


def _json(document: object) -> Reply:
    return Reply(json.dumps(document, allow_nan=False).encode())


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document: object = json.loads(body)
    except ValueError as error:
        raise UsageError(f"this is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise UsageError("an object was expected")
    return cast("Mapping[str, Any]", document)


def _image(asked: _Asked) -> Reply:
    """Raw int16 HU, row by row, little endian; `X-Size` is rows, columns, `X-Complete` whether every row is there."""
    session, look, plane = asked.session, asked.look(), asked.plane
    index = asked.number("index", look.subject.geometry.count(plane))
    picture = session.picture(asked.one_of("panel", session.view.panels), look, plane, index)
    rows, columns = picture.values.shape
    headers = {"X-Size": f"{rows},{columns}", "X-Complete": str(int(picture.complete))}
    return Reply(picture.int16(session.view.hu_range).tobytes(), "application/octet-stream", headers=headers)


def _numbers(asked: _Asked) -> object:
    look, plane = asked.look(), asked.plane
    index = asked.number("index", look.subject.geometry.count(plane))
    window = Window(asked.measure("center"), asked.measure("width"))
    return asked.session.numbers(asked.turn(), look, plane, index, window, _box(asked, look, plane))


def _box(asked: _Asked, look: Look, plane: PlaneName) -> Box | None:
    if "top" not in asked.values:
        return None
    rows, columns = look.subject.geometry.size(plane)
    top, left = asked.number("top", rows), asked.number("left", columns)
    height, width = asked.number("rows", rows - top + 1), asked.number("columns", columns - left + 1)
    if not height or not width:
        raise UsageError("an empty rectangle has no numbers")
    return Box(top, left, height, width)


def _look(asked: _Asked) -> object:
    return asked.session.look(asked.turn(), asked.look())


def _change(asked: _Asked, wishes: Mapping[str, Any]) -> object:
    session = asked.session
    return {"setting": session.settings.add(changed(session.settings.base, wishes)).number}


QUESTIONS: dict[str, Callable[[_Asked], object]] = {
    "state": lambda asked: asked.session.view.facts(),
    "geometry": lambda asked: asked.session.geometry(asked.number("series", len(asked.session.subjects))),
    "look": _look,
    "numbers": _numbers,
}
WISHES: dict[str, Callable[[_Asked, Mapping[str, Any]], object]] = {"setting": _change}
