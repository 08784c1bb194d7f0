"""Requests of the page by name, their parameters checked, and the replies as bytes."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl

from ctsr.errors import UsageError
from ctsr.hu import Window
from ctsr.viewer import PlaneName
from ctsr.viewer.images import PLANES, PROJECTIONS, PanelName, Slab
from ctsr.viewer.roi_metrics import PixelRect
from ctsr.viewer.samplers import with_changes, with_strength
from ctsr.viewer.session import PageTurn, ViewedSlice, ViewerSession

HEARTBEAT_S = 15.0
"""Interval of comments on the event stream, by which closed pages are noticed."""
MAX_COUNT = 2**31
"""Upper bound of turns and setting numbers."""
MAX_DIGITS = 10
"""Digits of a whole number in a request."""
MAX_WINDOW_HU = 1e6
"""Largest absolute centre and width of a window: far beyond every HU, and exact in float32 arithmetic."""
SHAPES = ("rectangle", "ellipse")
"""Shapes of a region."""
MAX_SLAB_MM = 50.0
"""Thickest slab that images are projected from."""

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """Body, type, status and headers of an HTTP reply."""

    body: bytes
    content_type: str = "application/json"
    status: HTTPStatus = HTTPStatus.OK
    headers: dict[str, str] = field(default_factory=dict[str, str])


def answer(session: ViewerSession, name: str, query: str, body: bytes | None) -> Reply:
    """Answer a request of the page.

    Args:
        session: whose data is asked for.
        name: a key of `QUERIES` or `CHANGES`.
        query: the URL's query string.
        body: JSON of a POST; None for a GET.

    Raises:
        UsageError: unknown request, or a parameter that is missing or malformed.
        StaleRequestError: the page has asked for something else meanwhile.
    """
    parameters = _Parameters(session, dict(parse_qsl(query)))
    if body is not None:
        if name not in CHANGES:
            raise UsageError(f"unknown request {name!r}")
        return _json_reply(CHANGES[name](parameters, _json_object(body)))
    if name == "image":
        return _image(parameters)
    if name not in QUERIES:
        raise UsageError(f"unknown request {name!r}")
    return _json_reply(QUERIES[name](parameters))


def events(session: ViewerSession) -> Iterator[str]:
    """Server-sent events: one JSON line for each slice that becomes ready, and comments as heartbeat."""
    last, _ = session.events(0, 0)  # pages ask for what was ready before
    yield ": connected\n\n"
    while not session.closed:
        last, new = session.events(last, HEARTBEAT_S)
        yield "".join(f"data: {json.dumps(event)}\n\n" for event in new) or ": heartbeat\n\n"


@dataclass(frozen=True)
class _Parameters:
    """Query parameters, each checked when it is read."""

    session: ViewerSession
    values: Mapping[str, str]

    def integer(self, name: str, below: int) -> int:
        text = self.values.get(name, "")
        # `int` refuses thousands of digits: the length is checked first.
        if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS or int(text) >= below:
            raise UsageError(f"{name} must be a whole number below {below}, got {text[: MAX_DIGITS + 1]!r}")
        return int(text)

    def one_of(self, name: str, choices: tuple[T, ...]) -> T:
        value = self.values.get(name)
        if value not in choices:
            raise UsageError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")
        return cast("T", value)

    def number(self, name: str) -> float:
        text = self.values.get(name, "")
        try:
            value = float(text)
        except ValueError as error:
            raise UsageError(f"{name} must be a number, got {text[:40]!r}") from error
        if not abs(value) <= MAX_WINDOW_HU:  # also nan
            raise UsageError(f"{name} must lie between -{MAX_WINDOW_HU:g} and {MAX_WINDOW_HU:g}, got {text[:40]!r}")
        return value

    @property
    def plane(self) -> PlaneName:
        return self.one_of("plane", PLANES)

    def turn(self) -> PageTurn:
        """The page that asks, and how often it had moved on by then."""
        return PageTurn(self.values.get("page", ""), self.integer("turn", MAX_COUNT))

    def viewed(self) -> ViewedSlice:
        """Series, degradation and slice; in other planes the axial slice under the cursor."""
        series = self.session.series[self.integer("series", len(self.session.series))]
        setting = self.session.settings[self.integer("setting", MAX_COUNT)]
        index = self.integer("slice", series.geometry.shape[0])
        return ViewedSlice(series, setting, index, self.values.get("reformatted") == "1")


def _json_reply(document: object) -> Reply:
    return Reply(json.dumps(document, allow_nan=False).encode())


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError) as error:  # the latter from deep nesting
        raise UsageError(f"not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise UsageError("expected a JSON object")
    return cast("Mapping[str, Any]", document)


def _image(parameters: _Parameters) -> Reply:
    """Raw int16 HU, row by row, little endian.

    `X-Size` is "rows,columns"; `X-Complete` is 1 if every slice that the image needs is computed. Of an image none of
    whose slices is computed nothing is sent: while slices are gone through, SR is asked for in vain most of the time.
    """
    session, viewed, plane = parameters.session, parameters.viewed(), parameters.plane
    index = parameters.integer("index", viewed.series.geometry.count(plane))
    panel: PanelName = parameters.one_of("panel", session.state.panels)
    image = session.image(panel, viewed, plane, index, _slab(parameters))
    rows, columns = image.values.shape
    headers = {"X-Size": f"{rows},{columns}", "X-Complete": str(int(image.complete))}
    body = b"" if image.missing.all() else image.int16(session.state.hu_range).tobytes()
    return Reply(body, "application/octet-stream", headers=headers)


def _slab(parameters: _Parameters) -> Slab | None:
    if "slab" not in parameters.values:
        return None
    thickness = parameters.number("slab_mm")
    if not 0 < thickness <= MAX_SLAB_MM:
        raise UsageError(f"slab_mm must lie between 0 and {MAX_SLAB_MM:g}, got {thickness:g}")
    return Slab(parameters.one_of("slab", PROJECTIONS), thickness)


def _numbers(parameters: _Parameters) -> object:
    viewed, plane = parameters.viewed(), parameters.plane
    index = parameters.integer("index", viewed.series.geometry.count(plane))
    window = Window(parameters.number("center"), parameters.number("width"))
    rect = _rect(parameters, viewed, plane)
    return parameters.session.numbers(parameters.turn(), viewed, plane, index, window, rect)


def _rect(parameters: _Parameters, viewed: ViewedSlice, plane: PlaneName) -> PixelRect | None:
    if "top" not in parameters.values:
        return None
    rows, columns = viewed.series.geometry.size(plane)
    top, left = parameters.integer("top", rows), parameters.integer("left", columns)
    height, width = parameters.integer("rows", rows - top + 1), parameters.integer("columns", columns - left + 1)
    if not height or not width:
        raise UsageError("an empty rectangle cannot be measured")
    is_ellipse = "shape" in parameters.values and parameters.one_of("shape", SHAPES) == "ellipse"
    return PixelRect(top, left, height, width, is_ellipse)


def _change_setting(parameters: _Parameters, changes: Mapping[str, Any]) -> object:
    settings = parameters.session.settings
    if settings.strength is not None:
        return {"setting": settings.add(settings.base, with_strength(settings.strength, changes)).number}
    return {"setting": settings.add(with_changes(settings.base, changes)).number}


QUERIES: dict[str, Callable[[_Parameters], object]] = {
    "state": lambda asked: asked.session.state.as_dict(),
    "geometry": lambda asked: asked.session.geometry(asked.integer("series", len(asked.session.series))),
    "look": lambda asked: asked.session.view(asked.turn(), asked.viewed()),
    "made_with": lambda asked: asked.session.made_with(asked.viewed()),
    "numbers": _numbers,
}
CHANGES: dict[str, Callable[[_Parameters, Mapping[str, Any]], object]] = {"setting": _change_setting}
