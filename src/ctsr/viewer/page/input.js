// Mouse and keys.

import { boxOf, moved, nudge, regionAt, removeLast, select } from "./regions.js";
import { change, keyPlane, known, moveTo, onwards, setCursor, sizeMm, sliceIndex, view } from "./state.js";

const WHEEL_PX = 60; // so far a touchpad scrolls for one slice
const LARGEST_ZOOM = 40;
const SWIPE_PX = 14; // so far a finger moves for one slice
const ZOOM_PX = 200; // so far up enlarges e times
const DIVIDER_PX = 14; // so near the divider of a wipe is taken hold of
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
    drag = { ...start, center: view.center, width: view.width, ...kindOf(pane, event, start) };
    event.preventDefault();
    /** @type {HTMLElement | null} */ (document.activeElement)?.blur();
    if (drag.kind === "point") put(pane, drag.mm);
    if (drag.kind === "wipe") wipe(pane, event);
    if (drag.kind === "length" || drag.kind === "angle") drawShape(drag);
  });

  element.addEventListener("pointermove", (event) => {
    const pane = drag?.pane ?? stage.paneAt(event.target);
    if (!pane) return;
    const mm = pane.toMm(event.clientX, event.clientY);
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, [event.clientX, event.clientY]);
    change({ hover: { plane: pane.plane, x: mm[0], y: mm[1] }, active: pane.plane });
    if (drag?.kind === "pinch") pinch(drag, span(fingers));
    else if (drag) dragged(drag, event, mm);
    else if (openAngle()) stretch(openAngle(), inside(pane, mm), 2);
  });

  element.addEventListener("pointerup", (event) => {
    const still = drag && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < TAP_PX;
    if (still && (drag.kind === "scroll" || (drag.kind === "window" && event.button === 0))) put(drag.pane, drag.mm);
    fingers.delete(event.pointerId);
    drag = null;
  });
  element.addEventListener("pointercancel", (event) => { fingers.delete(event.pointerId); drag = null; });
  element.addEventListener("pointerleave", () => { if (!drag) change({ hover: null }); });
  element.addEventListener("dblclick", (event) => {
    // A pointer that was captured makes the stage the target.
    const pane = stage.paneAt(document.elementFromPoint(event.clientX, event.clientY));
    if (pane && view.tool !== "angle") maximise(stage, stage.panes.indexOf(pane));
  });
}

/** One pane alone, or all of them again. */
export function maximise(stage, number) {
  change({ maximised: view.maximised === null && stage.panes.length > 1 ? number : null });
}

/** What a button does where it is pressed. */
function kindOf(pane, event, { mm }) {
  const pan = { kind: "pan", pan: view.pan[pane.plane] };
  if (event.button === 2) return { kind: view.classic ? "window" : "zoom", zoom: view.zoom };
  if (event.button === 1 || event.shiftKey) return pan;
  const held = regionAt(pane, mm);
  if (held) {
    select(held.region);
    return held.fixed ? { kind: "resize", fixed: held.fixed, shape: held.region.shape } : { kind: "carry", region: held.region };
  }
  if (view.tool !== "point") return { kind: view.tool };
  if (pane.kind === "wipe" && Math.abs(event.clientX - pane.element.getBoundingClientRect().left - pane.width * view.wipe) < DIVIDER_PX) return { kind: "wipe" };
  if (event.pointerType === "touch") return { kind: "scroll", index: sliceIndex(pane.plane) };
  return { kind: view.classic ? "point" : "window" };
}

/** The angle that lacks its second leg. */
function openAngle() {
  const last = view.shapes.at(-1);
  return view.tool === "angle" && last?.kind === "angle" && last.open ? last : null;
}

function stretch(shape, mm, i) {
  const points = [...shape.points];
  points[i] = mm;
  change({ shapes: [...view.shapes.slice(0, -1), { ...shape, points }] });
}

/** A length begins and ends with a drag; an angle's first leg does, and a click ends its second. */
function drawShape(drag) {
  const { pane } = drag;
  const open = openAngle();
  if (open && open.plane === pane.plane) {
    change({ shapes: [...view.shapes.slice(0, -1), { ...open, points: [...open.points.slice(0, 2), inside(pane, drag.mm)], open: false }] });
    drag.kind = "none";
    return;
  }
  const at = inside(pane, drag.mm);
  const shape = { kind: drag.kind, plane: pane.plane, index: sliceIndex(pane.plane), points: [at, at] };
  change({ shapes: [...view.shapes, drag.kind === "angle" ? { ...shape, open: true } : shape] });
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
  const panned = [x + (middle[0] - drag.middle[0]) / scale, y + (middle[1] - drag.middle[1]) / scale];
  view.pan = { ...view.pan, [pane.plane]: panned };
  zoomAt(pane, { clientX: middle[0], clientY: middle[1] }, distance / drag.distance);
  Object.assign(drag, { middle, distance });
}

function dragged(drag, event, mm) {
  const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
  const { pane } = drag;
  if (drag.kind === "window") {
    if (Math.hypot(dx, dy) < TAP_PX && !drag.going) return; // a click sets the point
    drag.going = true;
    const speed = Math.max(1, drag.width / 400);
    change({ center: Math.round(drag.center + dy * speed), width: Math.max(1, Math.round(drag.width + dx * speed)) });
  } else if (drag.kind === "pan") {
    const { scale } = pane.transform;
    change({ pan: { ...view.pan, [pane.plane]: [drag.pan[0] + dx / scale, drag.pan[1] + dy / scale] } });
  } else if (drag.kind === "zoom") {
    const factor = (drag.zoom * Math.exp(-dy / ZOOM_PX)) / view.zoom;
    zoomAt(pane, { clientX: drag.x, clientY: drag.y }, factor);
  } else if (drag.kind === "scroll") moveTo(pane.plane, drag.index - Math.trunc(dy / SWIPE_PX) * onwards(pane.plane));
  else if (drag.kind === "point") put(pane, mm);
  else if (drag.kind === "wipe") wipe(pane, event);
  else if (drag.kind === "line") change({ line: { plane: pane.plane, from: inside(pane, drag.mm), to: inside(pane, mm) } });
  else if (drag.kind === "length" || drag.kind === "angle") stretch(view.shapes.at(-1), inside(pane, mm), 1);
  else if (drag.kind === "box" || drag.kind === "ellipse") {
    // The one before stays, with its text on the image.
    if (!drag.drawn && view.box) change({ regions: [view.box, ...view.regions] });
    drag.drawn = true;
    change({ box: boxOf(pane.plane, inside(pane, drag.mm), inside(pane, mm), drag.kind === "ellipse" ? "ellipse" : undefined) });
  } else if (drag.kind === "resize") change({ box: boxOf(pane.plane, drag.fixed, inside(pane, mm), drag.shape) });
  else if (drag.kind === "carry") change({ box: moved(drag.region, [mm[0] - drag.mm[0], mm[1] - drag.mm[1]]) });
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
    q: () => actions.tool("point"), o: () => actions.tool("box"), e: () => actions.tool("ellipse"), l: () => actions.tool("line"),
    t: () => actions.tool("length"), y: () => actions.tool("angle"), Delete: removeLast, Backspace: removeLast,
    z: () => change({ loupe: !view.loupe }), i: () => change({ corners: !view.corners }), I: () => change({ invert: !view.invert }),
    j: () => change({ playing: !view.playing }), f: actions.fullscreen, k: () => actions.layout(1), K: () => actions.layout(-1),
    u: () => actions.slab(), ",": () => change({ slabMm: Math.max(1, view.slabMm - 1) }), ".": () => change({ slabMm: Math.min(50, view.slabMm + 1) }),
    Enter: actions.draw, x: () => actions.compare("wipe"), X: () => actions.compare("checker"), b: () => actions.compare("blink"), " ": actions.flip,
    d: () => actions.panel("Difference"),
    n: () => change({ smooth: !view.smooth }), m: () => change({ beyond: !view.beyond }), h: () => change({ crosshair: !view.crosshair }),
    w: () => actions.nextPreset(1), W: () => actions.nextPreset(-1),
    "+": () => change({ zoom: Math.min(LARGEST_ZOOM, view.zoom * 1.25) }), "=": () => change({ zoom: Math.min(LARGEST_ZOOM, view.zoom * 1.25) }),
    "-": () => change({ zoom: Math.max(0.5, view.zoom / 1.25) }),
    0: actions.fit,
    r: actions.reset, g: actions.goto, p: actions.savePicture, P: actions.saveNumbers, "?": actions.help, Escape: actions.escape,
  };
  for (let i = 1; i <= 9; i++) keys[String(i)] = () => actions.preset(i - 1);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || !known.geometry || (event.altKey && !event.key.startsWith("Arrow"))) return;
    if (document.querySelector("dialog[open]") && event.key !== "?") return;
    const target = /** @type {HTMLElement} */ (event.target);
    const typing = /** @type {HTMLElement | null} */ (target.closest?.("input:not([type=range], [type=checkbox]), select, textarea"));
    if (target.closest?.("[type=range]:not(#slider)") && /^(Arrow|Page|Home|End)/.test(event.key)) return;
    if (typing && event.key !== "Escape") return;
    if ((event.key === " " || event.key === "Enter") && target.closest?.("button, summary, [type=checkbox]")) return;
    const digit = event.shiftKey ? /^Digit([1-9])$/.exec(event.code) : null; // whatever the layout makes of it
    if (digit && !typing) {
      actions.panel(known.state.panels[Number(digit[1]) - 1]);
      event.preventDefault();
      return;
    }
    if (arrows(event)) return;
    // Caps Lock turns letters round: Shift alone tells w from W.
    const letter = /^[a-z]$/i.test(event.key);
    const act = keys[letter ? event.key[event.shiftKey ? "toUpperCase" : "toLowerCase"]() : event.key];
    if (!act) return;
    event.preventDefault();
    if (typing) typing.blur();
    act();
  });
}

/** Arrows on a keyboard alone: with Alt they move the region or the divider, with Shift as well they size the region. */
function arrows(event) {
  const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!by || !event.altKey) return false;
  event.preventDefault();
  if (view.compare === "wipe" && !view.box) change({ wipe: Math.max(0, Math.min(1, view.wipe + 0.02 * by[0])) });
  else nudge(by[0], by[1], event.shiftKey);
  return true;
}
