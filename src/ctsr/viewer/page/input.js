// Mouse and keys.

import { IMAGES } from "./format.js";
import { change, keyPlane, known, moveTo, onwards, setCursor, sizeMm, sliceIndex, view } from "./state.js";

const WHEEL_PX = 60; // so far a touchpad scrolls for one slice
const LARGEST_ZOOM = 40;
const SWIPE_PX = 14; // so far a finger moves for one slice
const TAP_PX = 6; // a finger that moves less has tapped

export function bindMouse(stage) {
  const element = stage.element;
  let drag = null;
  let rolled = 0;
  const fingers = new Map(); // pointer → where it is

  element.addEventListener("contextmenu", (event) => event.preventDefault());

  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pane = stage.paneAt(event.target);
    if (!pane) return;
    if (event.ctrlKey || event.metaKey) return zoomAt(pane, event, Math.exp(-event.deltaY / 300));
    rolled += event.deltaMode === 0 ? event.deltaY / WHEEL_PX : event.deltaY;
    const steps = Math.abs(event.deltaY) >= 100 && event.deltaMode === 0 ? Math.sign(event.deltaY) : Math.trunc(rolled);
    if (steps) {
      rolled = 0;
      moveTo(pane.plane, sliceIndex(pane.plane) + steps * onwards(pane.plane));
    }
  }, { passive: false });

  element.addEventListener("pointerdown", (event) => {
    const pane = stage.paneAt(event.target);
    if (!pane) return;
    element.setPointerCapture(event.pointerId);
    const start = { pane, x: event.clientX, y: event.clientY, mm: pane.toMm(event.clientX, event.clientY) };
    if (event.pointerType === "touch") {
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (fingers.size === 2) {
        drag = { ...start, kind: "pinch", ...span(fingers) };
        return;
      }
    }
    if (event.button === 2) drag = { ...start, kind: "window", center: view.center, width: view.width };
    else if (event.button === 1 || event.shiftKey) drag = { ...start, kind: "pan", pan: view.pan[pane.plane] };
    else if (pane.kind === "wipe" && view.tool === "point") drag = { ...start, kind: "wipe" };
    else if (event.pointerType === "touch" && view.tool === "point") drag = { ...start, kind: "scroll", index: sliceIndex(pane.plane) };
    else drag = { ...start, kind: view.tool };
    event.preventDefault();
    document.activeElement?.blur();
    if (drag.kind === "point") put(pane, drag.mm);
    if (drag.kind === "wipe") wipe(pane, event);
  });

  element.addEventListener("pointermove", (event) => {
    const pane = drag?.pane ?? stage.paneAt(event.target);
    if (!pane) return;
    const mm = pane.toMm(event.clientX, event.clientY);
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, [event.clientX, event.clientY]);
    change({ hover: { plane: pane.plane, x: mm[0], y: mm[1] }, active: pane.plane });
    if (drag?.kind === "pinch") pinch(drag, span(fingers));
    else if (drag) dragged(drag, event, mm);
  });

  element.addEventListener("pointerup", (event) => {
    if (drag?.kind === "scroll" && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < TAP_PX) put(drag.pane, drag.mm);
    fingers.delete(event.pointerId);
    drag = null;
  });
  element.addEventListener("pointercancel", (event) => { fingers.delete(event.pointerId); drag = null; });
  element.addEventListener("pointerleave", () => { if (!drag) change({ hover: null }); });
  element.addEventListener("dblclick", () => change({ zoom: 1, pan: { axial: [0, 0], coronal: [0, 0], sagittal: [0, 0] } }));
}

/** Middle and distance of two fingers. */
function span(fingers) {
  const [a, b] = [...fingers.values()];
  return { middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], distance: Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1])) };
}

/** Two fingers: together they move the image, apart they enlarge it. */
function pinch(drag, { middle, distance }) {
  const { pane } = drag;
  const { scale } = pane.transform;
  const [x, y] = view.pan[pane.plane];
  const moved = [x + (middle[0] - drag.middle[0]) / scale, y + (middle[1] - drag.middle[1]) / scale];
  view.pan = { ...view.pan, [pane.plane]: moved };
  zoomAt(pane, { clientX: middle[0], clientY: middle[1] }, distance / drag.distance);
  Object.assign(drag, { middle, distance });
}

function dragged(drag, event, mm) {
  const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
  const { pane } = drag;
  if (drag.kind === "window") {
    const speed = Math.max(1, drag.width / 400);
    change({ center: Math.round(drag.center + dy * speed), width: Math.max(1, Math.round(drag.width + dx * speed)) });
  } else if (drag.kind === "pan") {
    const { scale } = pane.transform;
    change({ pan: { ...view.pan, [pane.plane]: [drag.pan[0] + dx / scale, drag.pan[1] + dy / scale] } });
  } else if (drag.kind === "scroll") moveTo(pane.plane, drag.index - Math.trunc(dy / SWIPE_PX) * onwards(pane.plane));
  else if (drag.kind === "point") put(pane, mm);
  else if (drag.kind === "wipe") wipe(pane, event);
  else if (drag.kind === "line") change({ line: { plane: pane.plane, from: inside(pane, drag.mm), to: inside(pane, mm) } });
  else if (drag.kind === "box") change({ box: boxOf(pane.plane, inside(pane, drag.mm), inside(pane, mm)) });
}

function wipe(pane, event) {
  const box = pane.element.getBoundingClientRect();
  change({ wipe: Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) });
}

function inside(pane, [x, y]) {
  const [across, down] = sizeMm(pane.plane);
  return [Math.max(0, Math.min(across, x)), Math.max(0, Math.min(down, y))];
}

function put(pane, mm) {
  const [x, y] = inside(pane, mm);
  const { pixel, size } = known.geometry.planes[pane.plane];
  setCursor(pane.plane, Math.min(size[0] - 1, Math.floor(y / pixel[0])), Math.min(size[1] - 1, Math.floor(x / pixel[1])));
}

/** The pixels at full resolution that a rectangle in mm touches. */
export function boxOf(plane, a, b) {
  const { pixel, size } = known.geometry.planes[plane];
  const span = (i, axis) => {
    const from = Math.max(0, Math.floor(Math.min(a[i], b[i]) / pixel[axis]));
    const to = Math.min(size[axis], Math.max(from + 1, Math.ceil(Math.max(a[i], b[i]) / pixel[axis])));
    return [Math.min(from, size[axis] - 1), to];
  };
  const [[left, right], [top, bottom]] = [span(0, 1), span(1, 0)];
  return { plane, top, left, rows: bottom - top, columns: right - left };
}

/** Zoom so that what is under the mouse stays there. */
function zoomAt(pane, event, factor) {
  const before = pane.toMm(event.clientX, event.clientY);
  view.zoom = Math.max(0.5, Math.min(LARGEST_ZOOM, view.zoom * factor));
  const after = pane.toMm(event.clientX, event.clientY);
  const pan = { ...view.pan };
  for (const plane of Object.keys(pan)) pan[plane] = [...pan[plane]];
  pan[pane.plane] = [0, 1].map((i) => pan[pane.plane][i] + after[i] - before[i]);
  change({ zoom: view.zoom, pan });
}

export function bindKeys(actions) {
  const step = (count) => () => moveTo(keyPlane(), sliceIndex(keyPlane()) + count * onwards(keyPlane()));
  const keys = {
    ArrowUp: step(-1), ArrowLeft: step(-1), ArrowDown: step(1), ArrowRight: step(1),
    PageUp: step(-10), PageDown: step(10),
    Home: () => moveTo(keyPlane(), 0),
    End: () => moveTo(keyPlane(), known.geometry.planes[keyPlane()].count - 1),
    a: () => actions.plane("axial"), c: () => actions.plane("coronal"), s: () => actions.plane("sagittal"), v: () => actions.plane("all"),
    q: () => actions.tool("point"), o: () => actions.tool("box"), l: () => actions.tool("line"),
    x: () => actions.compare("wipe"), b: () => actions.compare("blink"), " ": actions.flip,
    d: () => actions.panel("Difference"),
    n: () => change({ smooth: !view.smooth }), m: () => change({ beyond: !view.beyond }), h: () => change({ crosshair: !view.crosshair }),
    w: () => actions.nextPreset(1), W: () => actions.nextPreset(-1),
    "+": () => change({ zoom: Math.min(LARGEST_ZOOM, view.zoom * 1.25) }), "=": () => change({ zoom: Math.min(LARGEST_ZOOM, view.zoom * 1.25) }),
    "-": () => change({ zoom: Math.max(0.5, view.zoom / 1.25) }),
    0: () => change({ zoom: 1, pan: { axial: [0, 0], coronal: [0, 0], sagittal: [0, 0] } }),
    r: actions.reset, g: actions.goto, p: actions.savePicture, P: actions.saveNumbers, "?": actions.help, Escape: actions.escape,
  };
  for (let i = 1; i <= IMAGES.length; i++) keys[String(i)] = () => { if (known.state.panels[i - 1]) actions.panel(known.state.panels[i - 1]); };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !known.geometry) return;
    if (document.querySelector("dialog[open]") && event.key !== "?") return;
    const typing = event.target.closest?.("input:not([type=range], [type=checkbox]), select, textarea");
    if (event.target.closest?.("[type=range]:not(#slider)") && /^(Arrow|Page|Home|End)/.test(event.key)) return;
    if (typing && event.key !== "Escape") return;
    if (event.key === " " && event.target.closest?.("button, summary, [type=checkbox]")) return;
    // Caps Lock turns letters round: Shift alone tells w from W.
    const letter = /^[a-z]$/i.test(event.key);
    const act = keys[letter ? event.key[event.shiftKey ? "toUpperCase" : "toLowerCase"]() : event.key];
    if (!act) return;
    event.preventDefault();
    if (typing) typing.blur();
    act();
  });
}
