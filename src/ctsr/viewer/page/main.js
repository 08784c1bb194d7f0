// The page's beginning: reads what there is to see, binds controls, and keeps pictures and numbers in step with them.

import { ask, listen, page, wish } from "./api.js";
import { fillSelects, presetName, resetControls, showControls } from "./controls.js";
import { PLANES } from "./format.js";
import { fillHelp } from "./help.js";
import { bindKeys, bindMouse } from "./input.js";
import { Stage, requestFor } from "./panels.js";
import { curves, drawPlot } from "./profile.js";
import { saveNumbers, savePicture, saveProfile } from "./save.js";
import * as side from "./sidebar.js";
import { applyLayout, currentLayout, layouts, rivals } from "./layouts.js";
import { allRegions, middleRegion } from "./regions.js";
import { change, keyPlane, known, mainPlane, moveTo, onChange, onwards, planes, regionKey, sliceIndex, view } from "./state.js";
import { bindStrength, isBetween, isNative, resetStrength, showStrength } from "./strength.js";
import { fromAddress, toAddress } from "./address.js";
import { PictureStore } from "./store.js";

const PICTURE_BYTES = 256 * 2 ** 20;
const AHEAD = 2; // neighbours on either side that are fetched before they are asked for
const REFILL_MS = 400; // between looks at a picture that fills up row by row
const SETTLE_MS = 150; // of calm before numbers are asked for
const BLINK_MS = 700;
const CINE_MS = 100;
const MOST_STATISTICS = 500;

/** @type {(id: string) => any} */
const $ = (id) => document.getElementById(id);
const store = new PictureStore(PICTURE_BYTES, () => redraw(), (error) => complain(error));
const stage = new Stage($("stage"), store);
const now = { turn: 0, drawn: null, drawnTurn: 0, slice: null, region: null, plotHover: null, start: null };

async function begin() {
  known.state = await ask("state");
  const { state } = known;
  fillHelp($("help"));
  fillSelects(state, actions);
  side.showModel();
  side.showNotes();
  const pair = isNative() ? ["SR", state.panels[1]] : [state.model ? "SR" : rivals()[0], "HR"];
  change({
    plane: state.plane, center: state.window[0], width: state.window[1], panels: new Set(layouts()[0].panels),
    difference: pair, pair: isNative() ? ["Source", "SR"] : pair, image: state.panels.at(-1),
  });
  bindStrength(async (wishes) => {
    try {
      change({ setting: (await wish("setting", wishes)).setting });
    } catch (error) {
      complain(error);
    }
  });
  now.start = { center: view.center, width: view.width, panels: layouts()[0].panels, fit: "body" };
  bind();
  const remembered = fromAddress();
  if (remembered) change(remembered.view);
  $("classic").checked = view.classic;
  await openSeries(remembered?.series ?? state.first, state.index, remembered);
  onChange((names) => { if (["series", "plane", "cursor", "center", "width", "box", "classic"].some((name) => names.has(name))) toAddress(); });
  listen(hear, answers);
}

/** Whether the server answers; once it does, at first or again, what became ready before it was heard is asked for. */
function answers(lost) {
  const wasLost = view.lost;
  if (lost !== wasLost) change({ lost });
  $("banner").hidden = !lost;
  if (lost) return;
  store.refresh(() => true);
  if (wasLost) want();
  look();
  measureSoon();
  measureBoxSoon();
}

let opening = 0; // a series that is decoded at leisure must not take the place of one that was chosen since

async function openSeries(number, index = null, remembered = null) {
  const turn = (opening += 1);
  const one = known.state.series[number];
  side.say(`Reading ${one.slices} slices …`);
  let geometry = null;
  try {
    geometry = await ask("geometry", { series: number });
  } catch (error) {
    if (turn !== opening) return;
    side.say(error.message, true);
    $("series").value = view.series;
    return;
  }
  if (turn !== opening) return;
  known.geometry = geometry;
  side.say("");
  const caveats = known.state.caveats[number];
  // Single slices are judged as the series is decoded, which is now.
  for (const text of known.geometry.doubts) {
    if (!caveats.some((each) => each.text === text)) caveats.push({ kind: "slice", text });
  }
  store.clear();
  const cursor = known.geometry.shape.map((count) => Math.floor(count / 2));
  if (index !== null) cursor[PLANES.indexOf(mainPlane())] = Math.min(index, known.geometry.shape[PLANES.indexOf(mainPlane())] - 1);
  if (remembered) cursor.forEach((_, axis) => { cursor[axis] = Math.min(remembered.cursor[axis], known.geometry.shape[axis] - 1); });
  const kept = remembered?.box;
  const size = kept ? known.geometry.planes[kept.plane].size : null;
  const box = kept && kept.top + kept.rows <= size[0] && kept.left + kept.columns <= size[1] ? kept : null;
  change({ series: number, cursor, box, line: null, hover: null, regions: [], shapes: [], zoom: 1, pan: { axial: [0, 0], coronal: [0, 0], sagittal: [0, 0] } });
  $("series").value = number;
}

// ---- in step with the view --------------------------------------------------------------------------------------

const MOVES = ["series", "setting", "plane", "cursor"];
const SHOWS = [...MOVES, "panels", "image", "two", "difference", "compare", "pair", "maximised", "slab", "slabMm"];

onChange((names) => {
  if (!known.geometry) return;
  const any = (...some) => some.some((name) => names.has(name));
  if (any("plane", "series") && boxIsElsewhere()) change({ box: null });
  if (any("plane", "series") && view.hover && !planes().includes(view.hover.plane)) change({ hover: null });
  if (any(...SHOWS, "tool", "line")) want();
  if (any("plane", "panels", "two", "compare") && !names.has("maximised") && view.maximised !== null) change({ maximised: null });
  if (any("series", "plane", "panels", "image", "two", "difference", "compare", "pair", "maximised")) stage.rebuild();
  else if (any("fit")) stage.arrange();
  else if (any("cursor", "setting", "slab", "slabMm", "invert", "zoom", "pan", "center", "width", "smooth", "differenceRange", "differenceClip", "beyond", "wipe", "flipped", "lost")) stage.draw();
  else if (any("hover", "box", "regions", "shapes", "line", "crosshair", "corners", "loupe", "tool")) stage.drawMarks();
  if (any(...MOVES)) look();
  if (any(...MOVES, "center", "width")) measureSoon();
  if (any(...MOVES, "box", "regions", "center", "width")) measureBoxSoon();
  if (any("hover", "cursor")) side.showUnder();
  if (any("series", "plane", "cursor", "active")) side.showSlice();
  if (any("series")) { side.showFacts(); side.showCaveats(); }
  if (now.drawn && !isNative() && any("center", "width")) side.showAgreement(now.drawn.departures);
  if (any("line", "tool", "panels", "plane", "cursor", "series", "setting", "slab", "slabMm")) plot();
  if (any("slab", "slabMm") && now.region) side.showRegion(now.region);
  if (any("slab") && now.drawn) showMade(now.drawn);
  showControls(stage);
});

function boxIsElsewhere() {
  return view.box && !planes().includes(view.box.plane);
}

/** The pictures that are needed, then those that may be next. */
function want() {
  const needed = [];
  const add = (name, plane) => needed.push(requestFor(name, plane));
  for (const pane of stage.wanted()) for (const name of pane.images) add(name, pane.plane);
  if (view.line && view.tool === "line") for (const name of shownNames()) add(name, view.line.plane);
  const next = [];
  for (let step = 1; step <= AHEAD; step++) {
    for (const request of [...needed]) {
      for (const index of [request.index + step, request.index - step]) {
        const { count } = known.geometry.planes[request.plane];
        if (index >= 0 && index < count && (request.plane === "axial" || request.panel !== "SR")) next.push({ ...request, index });
      }
    }
  }
  // SR may have to wait for the network: it is asked for, but nothing stands behind it in the queue.
  needed.sort((a, b) => Number(a.panel === "SR") - Number(b.panel === "SR"));
  store.want([...needed, ...next]);
}

function shownNames() {
  return known.state.panels.filter((name) => view.panels.has(name));
}

let redrawing = false;
function redraw() {
  if (redrawing) return;
  redrawing = true;
  requestAnimationFrame(() => {
    redrawing = false;
    stage.draw();
    plot();
  });
}

let looking = null;
async function look() {
  now.turn += 1; // what is asked for an earlier one is not wanted any more
  looking?.abort();
  looking = new AbortController();
  const { signal } = looking;
  try {
    const { series, setting, slice, reformatted } = requestFor("HR", mainPlane());
    const { turn } = now;
    const answer = await ask("look", { page, turn, series, setting, slice, reformatted }, signal);
    [now.drawn, now.drawnTurn] = [answer, turn];
    showMade(answer);
    side.showProgress(answer.progress);
  } catch (error) {
    complain(error);
  }
}

function showMade(made) {
  if (isNative()) showStrength(made);
  else side.showDegradation(made);
}

/** Before and after of the series are measured: SR that was shown for the time being may come out otherwise. */
async function tuned() {
  const { series, setting, slice } = requestFor("SR", mainPlane());
  try {
    const made = await ask("made_with", { series, setting, slice });
    if (series !== view.series || setting !== view.setting) return;
    now.drawn = { ...now.drawn, ...made };
    showMade(made);
    if (made.network_share < 1) {
      store.forget((request) => request.panel === "SR" && request.setting === setting);
      known.statistics.clear();
      want();
      measureBoxSoon();
    }
  } catch (error) {
    complain(error);
  }
}

function complain(error) {
  if (error.name !== "AbortError" && error.name !== "LostError") side.say(error.message, true);
}

let refilling = 0;
function hear(news) {
  if (news.series !== view.series || news.setting !== view.setting) return;
  side.showProgress(news);
  if (news.error) {
    side.say(news.index < 0 ? `Before and after: ${news.error}` : `${news.panel === "SR" ? "SR" : known.state.panels[0]} of slice ${news.index}: ${news.error}`, true);
    if (news.panel === "SR" && news.index >= 0) store.fail({ ...requestFor("SR", "axial"), index: news.index });
    stage.drawMarks();
    return;
  }
  if (news.index < 0) {
    tuned();
    return;
  }
  store.refresh((request) => request.plane === "axial" && request.panel === news.panel && request.index === news.index);
  if (view.slab) store.refresh((request) => Boolean(request.slab));
  if (news.panel === "SR" && news.index === view.cursor[0] && planes().includes("axial")) {
    measureSoon();
    measureBoxSoon();
  }
  const done = news[news.panel] === news.total;
  if (!refilling || done) {
    clearTimeout(refilling);
    refilling = setTimeout(() => {
      refilling = 0;
      store.refresh((request) => request.plane !== "axial");
      if (done && mainPlane() !== "axial") measureSoon();
      if (done && allRegions().some(({ plane }) => plane !== "axial")) measureBoxSoon();
    }, REFILL_MS);
  }
}

// ---- numbers ----------------------------------------------------------------------------------------------------

function numbersOf(plane, box, signal) {
  const place = box ? { top: box.top, left: box.left, rows: box.rows, columns: box.columns, ...(box.shape ? { shape: box.shape } : {}) } : {};
  const request = requestFor("HR", plane);
  return ask("numbers", { ...request, page, turn: now.turn, center: view.center, width: view.width, ...place }, signal);
}

/** Ask after a moment of calm; what was asked before is given up. */
function soon(ask_, show) {
  let timer = null;
  let controller = null;
  return () => {
    if (view.lost) return; // what was measured stays
    clearTimeout(timer);
    controller?.abort();
    show(null);
    timer = setTimeout(async () => {
      controller = new AbortController();
      try {
        const answer = await ask_(controller.signal);
        if (answer) show(answer);
      } catch (error) {
        complain(error);
      }
    }, SETTLE_MS);
  };
}

const measureSoon = soon((signal) => !isNative() && numbersOf(mainPlane(), null, signal), (answer) => {
  now.slice = answer;
  if (!isNative()) side.showMetrics(answer);
});
const measureBoxSoon = soon(measureRegions, (answer) => {
  now.region = answer;
  side.showRegion(answer);
});

/** Statistics of every region in the slice in view, and all that is known of the chosen one. */
async function measureRegions(signal) {
  let first = null;
  for (const region of allRegions()) {
    const answer = await numbersOf(region.plane, region, signal);
    if (!answer) return null;
    if (known.statistics.size > MOST_STATISTICS) known.statistics.clear();
    known.statistics.set(regionKey(region), answer.statistics);
    if (region === view.box) first = answer;
  }
  stage.drawMarks();
  return first;
}

// ---- the line profile -------------------------------------------------------------------------------------------

function plot() {
  const hidden = view.tool !== "line" || !known.geometry;
  if ($("plot").hidden !== hidden) $("plot").hidden = hidden;
  if (hidden) return;
  const canvas = $("plot").firstElementChild;
  now.curves = null;
  if (!view.line || !planes().includes(view.line.plane)) {
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    side.say("Drag a line across an image to see HU along it.");
    return;
  }
  const pictures = {};
  for (const name of shownNames()) {
    const found = store.get(requestFor(name, view.line.plane));
    if (found && (found.complete || view.line.plane !== "axial")) pictures[name] = found;
  }
  if (!Object.keys(pictures).length) return;
  now.curves = curves(pictures);
  drawPlot(canvas, now.curves, now.plotHover);
  side.say("");
}

/** What was told of the slice in view; null while that is still what was told of another. */
function drawnNow() {
  return now.drawnTurn === now.turn ? now.drawn : null;
}

// ---- controls ---------------------------------------------------------------------------------------------------

const actions = {
  plane: (plane) => change({ plane, ...(plane === "all" ? {} : { two: null }) }),
  panel: (name) => {
    if (name !== "Difference" && !known.state.panels.includes(name)) return;
    if (view.plane === "all" && !view.compare) {
      if (name !== "Difference") change({ image: name, two: null });
      return;
    }
    const panels = new Set(view.panels);
    if (!panels.delete(name)) panels.add(name);
    if (panels.size) change({ panels, compare: null, plane: view.plane });
  },
  preset: (number) => {
    const found = Object.values(known.state.presets)[number];
    if (found) change({ center: found[0], width: found[1] });
  },
  layout: (step) => {
    const found = layouts();
    const at = found.findIndex(({ name }) => name === currentLayout()?.name);
    applyLayout(found[(at + step + found.length) % found.length]);
  },
  slab: () => {
    const kinds = ["", "max", "mean", "min"];
    change({ slab: kinds[(kinds.indexOf(view.slab) + 1) % kinds.length] });
  },
  fit: () => {
    const unchanged = view.zoom === 1 && view.pan[mainPlane()].every((mm) => mm === 0);
    change({ fit: unchanged && view.fit === "body" ? "image" : "body", zoom: 1, pan: { axial: [0, 0], coronal: [0, 0], sagittal: [0, 0] } });
  },
  fullscreen: () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else $("work").requestFullscreen();
  },
  /** What a drag would draw, in the middle: for hands on a keyboard. */
  draw: () => {
    const plane = keyPlane();
    const [a, b] = [sizeOf(plane, 0.4), sizeOf(plane, 0.6)];
    if (view.tool === "box" || view.tool === "ellipse") {
      const region = middleRegion(plane, view.tool === "ellipse" ? "ellipse" : undefined);
      change({ box: region, regions: view.box ? [view.box, ...view.regions] : view.regions });
    } else if (view.tool === "line") change({ line: { plane, from: [a[0], a[1]], to: [b[0], a[1]] } });
  },
  tool: (tool) => change({ tool: view.tool === tool && tool !== "point" ? "point" : tool }),
  compare: (compare) => change({ compare: view.compare === compare ? null : compare, flipped: false }),
  flip: () => { if (view.compare === "blink") { restartBlink(0); change({ flipped: !view.flipped }); } },
  nextPreset: (step) => {
    const names = Object.keys(known.state.presets);
    const next = (names.indexOf(presetName()) + step + names.length) % names.length;
    const [center, width] = known.state.presets[names[next]];
    change({ center, width });
  },
  reset: () => {
    change({
      center: now.start.center, width: now.start.width, panels: new Set(now.start.panels), compare: null, zoom: 1, smooth: false,
      crosshair: false, beyond: false, invert: false, loupe: false, corners: true, playing: false, slab: "", fit: now.start.fit, two: null, maximised: null, regions: [], shapes: [], differenceClip: false, pan: { axial: [0, 0], coronal: [0, 0], sagittal: [0, 0] }, tool: "point", box: null, line: null, setting: 0,
    });
    resetControls();
    resetStrength();
  },
  goto: () => { $("index").focus(); $("index").select(); },
  savePicture: () => {
    // Of another strength, the last picture stays until the slice is made anew.
    const isOlder = isNative() && stage.panes.some((pane) => pane.pending && !pane.hasFailed());
    if (drawnNow() && !isOlder) savePicture(stage, $("plot").hidden ? null : $("plot").firstElementChild, now.drawn);
    else side.say("The slice is still being made; save it in a moment.");
  },
  saveNumbers: () => {
    if (isBetween() && !view.box) side.say("Slices between slices have numbers in a region: draw one first.");
    else if (view.box && !now.region) side.say("The region is still being measured; save its numbers in a moment.");
    else if (isBetween() ? now.region && drawnNow() : isNative() ? drawnNow()?.before_after : now.slice && drawnNow()) saveNumbers(now.slice, now.region, now.drawn);
    else side.say("The numbers are still being measured; save them in a moment.");
  },
  help: () => { if ($("help").open) $("help").close(); else $("help").showModal(); },
  escape: () => change({ tool: "point", compare: null, box: null, regions: [], shapes: [], line: null, maximised: null, playing: false, loupe: false }),
};

function sizeOf(plane, share) {
  const { size, pixel } = known.geometry.planes[plane];
  return [share * size[1] * pixel[1], share * size[0] * pixel[0]];
}

let cine = null;
onChange((names) => {
  if (!names.has("playing")) return;
  clearInterval(cine);
  cine = view.playing ? setInterval(nextSlice, CINE_MS) : null;
});

/** One slice on, and from the last one back to the first. */
function nextSlice() {
  const plane = keyPlane();
  const { count } = known.geometry.planes[plane];
  moveTo(plane, (sliceIndex(plane) + onwards(plane) + count) % count);
}

let blinking = null;
function restartBlink(everyMs) {
  clearInterval(blinking);
  blinking = everyMs ? setInterval(() => change({ flipped: !view.flipped }), everyMs) : null;
}
onChange((names) => { if (names.has("compare")) restartBlink(view.compare === "blink" ? BLINK_MS : 0); });

function bind() {
  bindMouse(stage);
  bindKeys(actions);
  const on = (id, event, act) => $(id).addEventListener(event, act);
  /** @type {(selector: string, act: (data: DOMStringMap) => void) => void} */
  const each = (selector, act) => document.querySelectorAll(selector).forEach((button) => button.addEventListener("click", () => act(/** @type {HTMLElement} */ (button).dataset)));
  each("#planes button", ({ plane }) => actions.plane(plane));
  each("#tools button", ({ tool }) => actions.tool(tool));
  each("#compare button", ({ compare }) => actions.compare(compare));
  each("#display button", ({ toggle }) => change({ [toggle]: !view[toggle] }));
  on("fullscreen", "click", actions.fullscreen);
  on("classic", "change", () => change({ classic: $("classic").checked }));
  $("layout").replaceChildren(...layouts().map(({ name }) => new Option(name, name)), Object.assign(new Option("own", ""), { hidden: true }));
  on("layout", "change", () => applyLayout(layouts().find(({ name }) => name === $("layout").value)));
  on("slab", "change", () => change({ slab: $("slab").value }));
  on("save-profile", "click", () => { if (now.curves) saveProfile(now.curves); });
  on("series", "change", () => openSeries(Number($("series").value)));
  on("image", "change", () => change({ image: $("image").value, two: null }));
  on("preset", "change", () => {
    const found = known.state.presets[$("preset").value];
    if (found) change({ center: found[0], width: found[1] });
  });
  /** @type {(id: string, put: (value: number) => void, valid?: (value: number) => boolean) => void} */
  const number = (id, put, valid = () => true) => on(id, "change", () => {
    const value = Number($(id).value);
    if ($(id).value !== "" && Number.isFinite(value) && valid(value)) put(value);
    else showControls(stage);
  });
  number("center", (center) => change({ center }));
  number("width", (width) => change({ width }), (width) => width > 0);
  number("slab-mm", (slabMm) => change({ slabMm }), (mm) => mm > 0 && mm <= 50);
  number("difference-range", (differenceRange) => change({ differenceRange }), (range) => range > 0);
  on("difference-clip", "change", () => { change({ differenceClip: $("difference-clip").checked }); $("difference-clip").blur(); });
  for (const id of ["minuend", "subtrahend"]) on(id, "change", () => change({ difference: [$("minuend").value, $("subtrahend").value] }));
  for (const id of ["first", "second"]) on(id, "change", () => change({ pair: [$("first").value, $("second").value] }));
  on("slider", "input", () => moveTo(keyPlane(), Number($("slider").value)));
  on("drawer", "click", () => {
    const open = document.body.classList.toggle("drawer");
    $("drawer").setAttribute("aria-expanded", String(open));
  });
  on("goto", "submit", (event) => {
    event.preventDefault();
    if ($("index").value !== "") moveTo(keyPlane(), Number($("index").value));
    $("index").blur();
    side.showSlice();
  });
  on("controls", "submit", applyDegradation);
  on("degradation-reset", "click", () => { resetControls(); change({ setting: 0 }); });
  on("save-png", "click", actions.savePicture);
  on("save-csv", "click", actions.saveNumbers);
  on("help-open", "click", actions.help);
  on("help", "click", (event) => { if (event.target === $("help")) $("help").close(); });
  on("plot", "pointermove", (event) => { now.plotHover = event.offsetX; plot(); });
  on("plot", "pointerleave", () => { now.plotHover = null; plot(); });
  // Back to the images, so that keys act on them again.
  document.addEventListener("change", ({ target }) => { if (target instanceof HTMLSelectElement) target.blur(); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target instanceof HTMLInputElement && event.target.matches(".bar input")) event.target.blur();
  });
  window.addEventListener("resize", () => { stage.arrange(); plot(); });
}

async function applyDegradation(event) {
  event.preventDefault();
  const { mode, sampling, sigma, noise, dose, deg_seed: seed } = $("controls").elements;
  const value = (field) => (field.value === "" ? null : Number(field.value));
  try {
    const wishes = { mode: mode.value, sampling: sampling.value, sigma: value(sigma), noise: value(noise), dose: value(dose), deg_seed: value(seed) };
    change({ setting: (await wish("setting", wishes)).setting });
    side.say("");
  } catch (error) {
    complain(error);
  }
}

begin().catch((error) => side.say(error.message, true));

// For tests and benchmarks, which look at what is shown rather than at how.
/** @type {any} */ (window).ctsr = { view, known, change, moveTo, stage, store, now, sliceIndex };
