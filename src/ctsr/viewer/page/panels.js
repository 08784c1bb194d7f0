// The panes of the stage: which there are, where they lie, and what is drawn on each.

import { NOTHING } from "./format.js";
import { Raster, difference, differenceTable, windowTable } from "./draw.js";
import { Marked } from "./marks.js";
import { extent, known, planes, sizeMm, sliceIndex, view } from "./state.js";

const MARGIN = 4; // CSS pixels between an image and its pane's edge
const GAP = 1;
const WORTH = 1.08; // so much larger images must be where four panes do not stand two by two, or three leave a place empty
const CHECKS = 8; // squares of a checkerboard along the shorter side
const PATIENCE_MS = 150; // so long the last slice stays where the next one has not arrived

/** What every pane shares: pictures and colour tables. */
export class Stage {
  constructor(element, store) {
    this.element = element;
    this.store = store;
    this.panes = [];
    this.luts = {};
    new ResizeObserver(() => this.arrange()).observe(element);
    matchMedia("(resolution: 1dppx)").addEventListener("change", () => this.arrange());
  }

  /** The panes that the view asks for, in order. */
  wanted() {
    const all = this.all();
    return view.maximised !== null && all.length > 1 && all[view.maximised] ? [all[view.maximised]] : all;
  }

  all() {
    if (view.compare) return planes().map((plane) => ({ kind: view.compare, plane, images: view.pair }));
    if (view.plane === "all") return (view.two ?? [view.image]).flatMap((name) => planes().map((plane) => one(name, plane)));
    return [...view.panels].map((name) => one(name, view.plane));
  }

  /** Make the panes anew where there are others than before, and lay them out. */
  rebuild() {
    const wanted = this.wanted();
    const key = JSON.stringify(wanted);
    if (key !== this.key) {
      this.key = key;
      this.element.replaceChildren();
      this.panes = wanted.map((spec) => new Pane(this, spec));
    }
    this.arrange();
  }

  arrange() {
    const box = this.element.getBoundingClientRect();
    const [width, height] = [Math.floor(box.width), Math.floor(box.height)];
    if (!width || !known.geometry || !this.panes.length) return;
    const boxes = bestBoxes(this.panes, width, height);
    this.panes.forEach((pane, i) => pane.place(...boxes[i]));
    this.draw();
  }

  lut(kind) {
    const wish = kind === "window" ? `${view.center} ${view.width} ${view.beyond} ${view.invert}` : `${view.differenceRange}`;
    if (this.luts[kind]?.wish !== wish) {
      const made = kind === "window" ? windowTable(view.center, view.width, view.beyond ? known.state.hu_range : null, view.invert) : differenceTable(view.differenceRange);
      this.luts[kind] = { wish, made };
    }
    return this.luts[kind].made;
  }

  draw() {
    for (const pane of this.panes) pane.draw();
  }

  drawMarks() {
    for (const pane of this.panes) pane.drawMarks();
  }

  paneAt(element) {
    return this.panes.find((pane) => pane.element === element.closest?.(".pane"));
  }
}

function one(name, plane) {
  return name === "Difference"
    ? { kind: "difference", plane, images: view.difference }
    : { kind: "image", plane, images: [name] };
}

/** Left, top, width and height of every pane: of all arrangements the one whose smallest image is largest. */
function bestBoxes(panes, width, height) {
  const candidates = [];
  for (let columns = 1; columns <= panes.length; columns++) {
    const rows = Math.ceil(panes.length / columns);
    const [w, h] = [(width - GAP * (columns - 1)) / columns, (height - GAP * (rows - 1)) / rows];
    // A square of panes keeps neighbours near each other: another arrangement must be worth it.
    const bonus = panes.length === 4 && columns === 2 ? WORTH : 1;
    candidates.push({ bonus, boxes: panes.map((_, i) => [(i % columns) * (w + GAP), Math.floor(i / columns) * (h + GAP), w, h]) });
  }
  if (view.plane === "all" && panes.length === 3) candidates.push({ bonus: WORTH, boxes: besideOthers(panes, width, height) });
  const gain = ({ boxes, bonus }) => bonus * Math.min(...panes.map((pane, i) => pane.fit(boxes[i][2], boxes[i][3])));
  return candidates.reduce((best, other) => (gain(other) > gain(best) * 1.001 ? other : best)).boxes;
}

/** Three planes without an empty place: the axial one at the left, the two others above each other. */
function besideOthers(panes, width, height) {
  const [first, ...others] = panes.map((pane) => extent(pane.plane)).map(([left, top, right, bottom]) => [right - left, bottom - top]);
  const share = first[0] / (first[0] + Math.max(...others.map(([across]) => across)));
  const [left, upper] = [Math.round(share * width), Math.round((height * others[0][1]) / (others[0][1] + others[1][1]))];
  const right = width - left - GAP;
  return [[0, 0, left, height], [left + GAP, 0, right, upper], [left + GAP, upper + GAP, right, height - upper - GAP]];
}

export function requestFor(name, plane) {
  return {
    series: view.series, setting: view.setting, panel: name, plane, index: sliceIndex(plane),
    slice: view.cursor[0], reformatted: planes().some((other) => other !== "axial") ? 1 : 0,
    ...(view.slab ? { slab: view.slab, slab_mm: view.slabMm } : {}),
  };
}

export class Pane extends Marked {
  constructor(stage, spec) {
    super();
    Object.assign(this, spec, { stage, rasters: [new Raster(), new Raster()], shown: [null, null], waitingSince: 0 });
    /** @type {any[] | null} */
    this.parts = null; // of a difference
    this.made = null;
    this.clipped = false;
    this.element = document.createElement("div");
    this.element.className = "pane";
    [this.image, this.marks] = [0, 1].map(() => this.element.appendChild(document.createElement("canvas")));
    this.marks.setAttribute("role", "img");
    this.marks.setAttribute("aria-label", `${this.title}, ${this.plane}`);
    stage.element.append(this.element);
  }

  get title() {
    return this.kind === "difference" ? `${this.images[0]} − ${this.images[1]}${view.differenceClip ? ", clipped" : ""}` : this.images.join(" | ");
  }

  place(left, top, width, height) {
    Object.assign(this.element.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
    const ratio = window.devicePixelRatio;
    for (const canvas of [this.image, this.marks]) {
      const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    }
    Object.assign(this, { width, height, ratio });
  }

  /** CSS pixels per mm, and where the image's top left corner lies. */
  get transform() {
    // Three planes share one scale, so that lengths can be compared between them.
    const scale = Math.min(...this.stage.panes.map((pane) => pane.fit(pane.width, pane.height))) * view.zoom;
    const [x, y] = view.pan[this.plane];
    const [left, top, right, bottom] = extent(this.plane);
    return { scale, left: (this.width - this.bar) / 2 + (x - (left + right) / 2) * scale, top: this.height / 2 + (y - (top + bottom) / 2) * scale };
  }

  /** CSS pixels per mm of a pane of this size. */
  fit(width, height) {
    const [left, top, right, bottom] = extent(this.plane);
    return Math.min((width - this.bar - 2 * MARGIN) / (right - left), (height - 2 * MARGIN) / (bottom - top));
  }

  /** Room at the right for the scale of colours, which covers no image. */
  get bar() {
    return this.kind === "difference" ? 4.2 * parseFloat(getComputedStyle(document.documentElement).fontSize) : 0;
  }

  /** mm from the image's top left corner of a point on the screen. */
  toMm(clientX, clientY) {
    const box = this.element.getBoundingClientRect();
    const { scale, left, top } = this.transform;
    return [(clientX - box.left - left) / scale, (clientY - box.top - top) / scale];
  }

  /** The picture of one of the images, or of their difference; the last one for a moment, else null. */
  picture(i) {
    const place = `${view.series} ${sliceIndex(this.plane)}`;
    const found = this.kind === "difference" ? this.differencePicture() : this.stored(this.images[i]);
    this.pending = !found;
    if (found) {
      this.shown[i] = found;
      this.shownAt = place;
      this.waitingSince = 0;
      return found;
    }
    if (view.lost && this.shown[i]) return this.shown[i];
    // Another strength: the last one stays until the slice is made anew.
    if (known.state.strength && this.shownAt === place && this.shown[i]) return this.shown[i];
    this.waitingSince ||= performance.now();
    const stale = this.images.includes("SR") || performance.now() - this.waitingSince > PATIENCE_MS;
    if (stale) this.shown[i] = null;
    else setTimeout(() => this.draw(), PATIENCE_MS + 10);
    return this.shown[i];
  }

  stored(name) {
    const found = this.stage.store.get(requestFor(name, this.plane));
    // SR of an axial slice is there or not; other planes fill up row by row, from the first row on.
    return found && (found.complete || (this.plane !== "axial" && !found.blank)) ? found : null;
  }

  /** Whether one of its pictures could not be made. */
  hasFailed() {
    return this.images.some((name) => this.stage.store.hasFailed(requestFor(name, this.plane)));
  }

  differencePicture() {
    const parts = this.images.map((name) => this.stored(name));
    if (!parts[0] || !parts[1]) return null;
    if (this.parts?.[0] !== parts[0] || this.parts?.[1] !== parts[1] || this.clipped !== view.differenceClip) {
      [this.parts, this.clipped] = [parts, view.differenceClip];
      this.made = difference(parts[0], parts[1], known.state.hu_range, view.differenceClip);
    }
    return this.made;
  }

  draw() {
    if (!this.width || !known.geometry) return;
    const context = this.image.getContext("2d", { alpha: false });
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.image.width, this.image.height);
    if (this.kind === "wipe") {
      const split = Math.round(this.image.width * view.wipe);
      this.paint(context, 0, 0, split);
      this.paint(context, 1, split, this.image.width);
    } else if (this.kind === "checker") {
      this.paint(context, 0, 0, this.image.width);
      context.save();
      context.clip(this.squares());
      this.paint(context, 1, 0, this.image.width);
      context.restore();
    } else {
      this.paint(context, this.kind === "blink" && view.flipped ? 1 : 0, 0, this.image.width);
    }
    this.drawMarks();
  }

  /** Every other square of a checkerboard, in pixels of the screen. */
  squares() {
    const side = Math.round(Math.min(this.image.width, this.image.height) / CHECKS);
    const path = new Path2D();
    for (let row = 0; row * side < this.image.height; row++) {
      for (let column = row % 2; column * side < this.image.width; column += 2) path.rect(column * side, row * side, side, side);
    }
    return path;
  }

  paint(context, i, from, to) {
    const picture = this.picture(i);
    if (!picture || to <= from) return;
    const lut = this.stage.lut(this.kind === "difference" ? "difference" : "window");
    const source = this.rasters[i].paint(picture, lut, view.beyond);
    const { scale, left, top } = this.transform;
    const [across, down] = sizeMm(this.plane);
    const [x, y, w, h] = [left, top, across * scale, down * scale].map((length) => length * this.ratio);
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, this.image.height);
    context.clip();
    // Smaller than its own pixels, an image without smoothing would lose some of them.
    context.imageSmoothingEnabled = view.smooth || w < picture.columns || h < picture.rows;
    context.drawImage(source, x, y, w, h);
    context.restore();
  }

  /** HU of an image at a point in mm, in its own pixels; null outside or where nothing is. */
  valueAt(i, x, y) {
    const picture = this.shown[i];
    const [across, down] = sizeMm(this.plane);
    if (!picture || x < 0 || y < 0 || x >= across || y >= down) return null;
    const column = Math.floor((x / across) * picture.columns);
    const value = picture.data[Math.floor((y / down) * picture.rows) * picture.columns + column];
    return value === NOTHING ? null : value;
  }
}
