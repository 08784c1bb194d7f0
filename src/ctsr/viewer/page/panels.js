// The panes of the stage: which there are, where they lie, and what is drawn on each.

import { COLORS, NOTHING, hu } from "./format.js";
import { Raster, difference, differenceTable, diverging, windowTable } from "./draw.js";
import { cursorIn, known, planes, sizeMm, sliceIndex, view } from "./state.js";

const MARGIN = 4; // CSS pixels between an image and its pane's edge
const GAP = 1;
const PATIENCE_MS = 150; // so long the last slice stays where the next one has not arrived
const BARS_MM = [1, 2, 5, 10, 20, 50, 100, 200];

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
    if (view.compare) return planes().map((plane) => ({ kind: view.compare, plane, images: view.pair }));
    if (view.plane === "all") return planes().map((plane) => one(view.image, plane));
    const order = ["LR", "Bilinear", "Bicubic", "SR", "HR", "Difference"];
    return order.filter((name) => view.panels.has(name)).map((name) => one(name, view.plane));
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
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width || !known.geometry || !this.panes.length) return;
    const columns = bestColumns(this.panes, width, height);
    const rows = Math.ceil(this.panes.length / columns);
    const [w, h] = [(width - GAP * (columns - 1)) / columns, (height - GAP * (rows - 1)) / rows];
    this.panes.forEach((pane, i) => {
      pane.place((i % columns) * (w + GAP), Math.floor(i / columns) * (h + GAP), w, h);
    });
    this.draw();
  }

  lut(kind) {
    const wish = kind === "window" ? `${view.center} ${view.width}` : `${view.differenceRange}`;
    if (this.luts[kind]?.wish !== wish) {
      const made = kind === "window" ? windowTable(view.center, view.width) : differenceTable(view.differenceRange);
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

/** So many columns that the smallest image is as large as it can be. */
function bestColumns(panes, width, height) {
  let best = [0, 1];
  for (let columns = 1; columns <= panes.length; columns++) {
    const rows = Math.ceil(panes.length / columns);
    const scales = panes.map((pane) => {
      const [across, down] = sizeMm(pane.plane);
      return Math.min(width / columns / across, height / rows / down);
    });
    const smallest = Math.min(...scales);
    if (smallest > best[0] * 1.001) best = [smallest, columns];
  }
  return best[1];
}

export function requestFor(name, plane) {
  return {
    series: view.series, setting: view.setting, panel: name, plane, index: sliceIndex(plane),
    slice: view.cursor[0], reformatted: planes().some((other) => other !== "axial") ? 1 : 0,
  };
}

export class Pane {
  constructor(stage, spec) {
    Object.assign(this, spec, { stage, rasters: [new Raster(), new Raster()], shown: [null, null], waitingSince: 0 });
    this.element = document.createElement("div");
    this.element.className = "pane";
    [this.image, this.marks] = [0, 1].map(() => this.element.appendChild(document.createElement("canvas")));
    this.marks.setAttribute("role", "img");
    this.marks.setAttribute("aria-label", `${this.title}, ${this.plane}`);
    stage.element.append(this.element);
  }

  get title() {
    return this.kind === "difference" ? `${this.images[0]} − ${this.images[1]}` : this.images.join(" | ");
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
    const [across, down] = sizeMm(this.plane);
    // Three planes share one scale, so that lengths can be compared between them.
    const fit = Math.min(...this.stage.panes.map((pane) => {
      const [w, h] = sizeMm(pane.plane);
      return Math.min((this.width - 2 * MARGIN) / w, (this.height - 2 * MARGIN) / h);
    }));
    const scale = fit * view.zoom;
    const [x, y] = view.pan[this.plane];
    return { scale, left: this.width / 2 + (x - across / 2) * scale, top: this.height / 2 + (y - down / 2) * scale };
  }

  /** mm from the image's top left corner of a point on the screen. */
  toMm(clientX, clientY) {
    const box = this.element.getBoundingClientRect();
    const { scale, left, top } = this.transform;
    return [(clientX - box.left - left) / scale, (clientY - box.top - top) / scale];
  }

  /** The picture of one of the images, or of their difference; the last one for a moment, else null. */
  picture(i) {
    const found = this.kind === "difference" ? this.differencePicture() : this.stored(this.images[i]);
    if (found) {
      this.shown[i] = found;
      this.waitingSince = 0;
      return found;
    }
    this.waitingSince ||= performance.now();
    const stale = this.images.includes("SR") || performance.now() - this.waitingSince > PATIENCE_MS;
    if (stale) this.shown[i] = null;
    else setTimeout(() => this.draw(), PATIENCE_MS + 10);
    return this.shown[i];
  }

  stored(name) {
    const found = this.stage.store.get(requestFor(name, this.plane));
    // SR of an axial slice is there or not; other planes fill up row by row.
    return found && (found.complete || this.plane !== "axial") ? found : null;
  }

  differencePicture() {
    const parts = this.images.map((name) => this.stored(name));
    if (!parts[0] || !parts[1]) return null;
    if (this.parts?.[0] !== parts[0] || this.parts?.[1] !== parts[1]) {
      this.parts = parts;
      this.made = difference(parts[0], parts[1]);
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
    } else {
      this.paint(context, this.kind === "blink" && view.flipped ? 1 : 0, 0, this.image.width);
    }
    this.drawMarks();
  }

  paint(context, i, from, to) {
    const picture = this.picture(i);
    if (!picture || to <= from) return;
    const lut = this.stage.lut(this.kind === "difference" ? "difference" : "window");
    const source = this.rasters[i].paint(picture, lut);
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

  drawMarks() {
    if (!this.width || !known.geometry) return;
    const c = this.marks.getContext("2d");
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    c.clearRect(0, 0, this.width, this.height);
    const size = parseFloat(getComputedStyle(document.documentElement).fontSize);
    this.pen = { c, size, pad: size * 0.7 };
    if (view.crosshair || view.plane === "all") this.drawCrosshair();
    this.drawBox();
    this.drawLine();
    if (this.kind === "wipe") this.drawDivider();
    if (this.kind === "difference") this.drawColours();
    this.drawTitles();
    this.drawOrientation();
    this.drawScaleBar();
    this.drawValue();
    this.drawWaiting();
  }

  text(text, x, y, { align = "left", base = "alphabetic", color = "#dbe1e8", weight = 400, size = 0.92 } = {}) {
    const { c } = this.pen;
    c.font = `${weight} ${this.pen.size * size}px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif`;
    Object.assign(c, { textAlign: align, textBaseline: base, lineJoin: "round", lineWidth: 3, strokeStyle: "rgb(0 0 0 / 75%)" });
    c.strokeText(text, x, y);
    c.fillStyle = color;
    c.fillText(text, x, y);
    return c.measureText(text).width;
  }

  drawTitles() {
    const { pad, size } = this.pen;
    if (this.kind === "wipe") {
      this.text(this.images[0], pad, pad, { base: "top", weight: 600, color: COLORS[this.images[0]] });
      this.text(this.images[1], this.width - pad, pad, { base: "top", align: "right", weight: 600, color: COLORS[this.images[1]] });
      return;
    }
    const name = this.kind === "blink" ? this.images[Number(view.flipped)] : this.title;
    const color = COLORS[this.kind === "difference" ? "Difference" : name];
    const width = this.text(name, pad, pad, { base: "top", weight: 600, color });
    const detail = this.detail();
    if (detail && this.width > 19 * size) this.text(detail, pad + width + 0.6 * size, pad, { base: "top", color: "#8e99a6", size: 0.84 });
  }

  detail() {
    if (view.plane === "all") return `${this.plane} ${sliceIndex(this.plane)}`;
    const picture = this.shown[0];
    return picture && this.kind === "image" ? `${picture.columns} × ${picture.rows}` : "";
  }

  drawOrientation() {
    const { left, right, top, bottom } = known.geometry.planes[this.plane].marks;
    const { pad } = this.pen;
    const style = { color: "#b9c2cc", size: 0.86, base: "middle" };
    const edge = this.kind === "difference" ? pad + 4.4 * this.pen.size : pad;
    this.text(left, pad, this.height / 2, style);
    this.text(right, this.width - edge, this.height / 2, { ...style, align: "right" });
    if (this.width > 15 * this.pen.size) {
      this.text(top, this.width / 2, pad, { ...style, base: "top", align: "center" });
      this.text(bottom, this.width / 2, this.height - pad, { ...style, base: "bottom", align: "center" });
    }
  }

  drawScaleBar() {
    const { c, pad, size } = this.pen;
    const { scale } = this.transform;
    const length = BARS_MM.findLast((bar) => bar * scale <= 0.24 * this.width) ?? BARS_MM[0];
    const [right, y] = [this.width - pad, this.height - pad];
    const left = right - length * scale;
    for (const [width, style] of [[3.5, "rgb(0 0 0 / 75%)"], [1.5, "#b9c2cc"]]) {
      c.lineWidth = width;
      c.strokeStyle = style;
      c.beginPath();
      c.moveTo(left, y - 4); c.lineTo(left, y); c.lineTo(right, y); c.lineTo(right, y - 4);
      c.stroke();
    }
    this.text(`${length} mm`, right, y - 0.4 * size, { align: "right", base: "bottom", color: "#b9c2cc", size: 0.8 });
  }

  drawValue() {
    if (!view.hover || view.hover.plane !== this.plane) return;
    const { pad } = this.pen;
    const { x, y } = view.hover;
    const i = this.kind === "blink" ? Number(view.flipped) : 0;
    const both = this.kind === "wipe" ? [0, 1] : [i];
    const values = both.map((each) => this.valueAt(each, x, y));
    const texts = values.map((value) => (value !== null && this.kind === "difference" && value > 0 ? `+${hu(value)}` : hu(value)));
    this.text(texts.join("  |  "), pad, this.height - pad, { base: "bottom", weight: 600 });
    // Where the cursor is, seen in every other image of the plane.
    const { c } = this.pen;
    const { scale, left, top } = this.transform;
    if (this.element.matches(":hover")) return;
    c.strokeStyle = "#ffffffb0";
    c.lineWidth = 1;
    c.beginPath();
    const [px, py] = [left + x * scale, top + y * scale];
    c.moveTo(px - 5, py); c.lineTo(px + 5, py); c.moveTo(px, py - 5); c.lineTo(px, py + 5);
    c.stroke();
  }

  drawCrosshair() {
    const { c } = this.pen;
    const [row, column] = cursorIn(this.plane);
    const { pixel } = known.geometry.planes[this.plane];
    const { scale, left, top } = this.transform;
    const x = left + (column + 0.5) * pixel[1] * scale;
    const y = row === null ? null : top + (row + 0.5) * pixel[0] * scale;
    c.strokeStyle = "rgb(111 199 181 / 65%)";
    c.lineWidth = 1;
    const room = 7; // the point itself stays free, and so do the letters at the edges
    const edge = 2 * this.pen.size;
    c.beginPath();
    for (const [from, to] of [[edge, (y ?? 0) - room], [(y ?? 0) + room, this.height - edge]]) { c.moveTo(x, from); c.lineTo(x, to); }
    if (y !== null) for (const [from, to] of [[edge, x - room], [x + room, this.width - edge]]) { c.moveTo(from, y); c.lineTo(to, y); }
    c.stroke();
  }

  drawBox() {
    const box = view.box;
    if (!box || box.plane !== this.plane) return;
    const { c } = this.pen;
    const { pixel } = known.geometry.planes[this.plane];
    const { scale, left, top } = this.transform;
    const place = [left + box.left * pixel[1] * scale, top + box.top * pixel[0] * scale, box.columns * pixel[1] * scale, box.rows * pixel[0] * scale];
    c.lineWidth = 3;
    c.strokeStyle = "rgb(0 0 0 / 55%)";
    c.strokeRect(...place);
    c.lineWidth = 1.5;
    c.strokeStyle = "#e2b35f";
    c.strokeRect(...place);
  }

  drawLine() {
    const line = view.line;
    if (!line || line.plane !== this.plane) return;
    const { c } = this.pen;
    const { scale, left, top } = this.transform;
    const [from, to] = [line.from, line.to].map(([x, y]) => [left + x * scale, top + y * scale]);
    for (const [width, style] of [[3, "rgb(0 0 0 / 55%)"], [1.5, "#e2b35f"]]) {
      c.lineWidth = width;
      c.strokeStyle = style;
      c.beginPath();
      c.moveTo(...from); c.lineTo(...to);
      c.stroke();
    }
    c.fillStyle = "#e2b35f";
    for (const [x, y] of [from, to]) { c.beginPath(); c.arc(x, y, 3, 0, 7); c.fill(); }
  }

  drawDivider() {
    const { c } = this.pen;
    const x = this.width * view.wipe;
    c.strokeStyle = "#dbe1e8";
    c.lineWidth = 1;
    c.beginPath(); c.moveTo(x, 2 * this.pen.size); c.lineTo(x, this.height - 2 * this.pen.size); c.stroke();
    c.fillStyle = "#dbe1e8";
    c.beginPath(); c.arc(x, this.height / 2, 5, 0, 7); c.fill();
  }

  /** The difference's scale: colours and HU, at the right edge. */
  drawColours() {
    const { c, pad, size } = this.pen;
    const [height, width] = [this.height * 0.5, 0.7 * size];
    const [x, y] = [this.width - pad - width, (this.height - height) / 2];
    for (let i = 0; i < height; i++) {
      c.fillStyle = `rgb(${diverging(1 - (2 * i) / height).join(" ")})`;
      c.fillRect(x, y + i, width, 1.5);
    }
    c.lineWidth = 1;
    c.strokeStyle = "#5a6470";
    c.strokeRect(x, y, width, height);
    const style = { align: "right", base: "middle", size: 0.8, color: "#b9c2cc" };
    const range = view.differenceRange;
    this.text(`+${range}`, x - 0.3 * size, y + 0.3 * size, style);
    this.text("0", x - 0.3 * size, y + height / 2 - 1.3 * size, style);
    this.text(`−${range}`, x - 0.3 * size, y + height - 0.3 * size, style);
    this.text("HU", this.width - pad, y + height + 0.4 * size, { ...style, base: "top" });
  }

  drawWaiting() {
    const missing = this.kind === "image" || this.kind === "difference" ? !this.shown[0] : !this.shown.every(Boolean);
    if (!missing) return;
    const forSr = this.images.includes("SR");
    this.text(forSr ? "computing SR …" : "…", this.width / 2, this.height / 2 - 1.6 * this.pen.size, { align: "center", color: "#8e99a6" });
  }
}
