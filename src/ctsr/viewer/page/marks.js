// What is written and drawn over an image: names, letters, scales, HU, crosshair, rectangle, line.

import { COLORS, hu, signed } from "./format.js";
import { diverging } from "./draw.js";
import { drawRegions, drawShapes } from "./regions.js";
import { cursorIn, known, sizeMm, sliceIndex, view } from "./state.js";

const LOUPE_TIMES = 4;
const LOUPE_EM = 7; // radius
export const SLABS = { max: "MIP", mean: "average", min: "MinIP" };

const BARS_MM = [1, 2, 5, 10, 20, 50, 100, 200];

/** HU, and what metrics take in its place where it is beyond their range. */
export function huAndClipped(value) {
  const [low, high] = known.state.hu_range;
  if (value === null || (value >= low && value <= high)) return hu(value);
  return `${hu(value)} (in metrics ${signed(value < low ? low : high)})`;
}

/** The part of a pane that draws on its second canvas; an image below need not be drawn again for it. */
export class Marked {
  /** @type {any} */ stage; /** @type {string} */ kind; /** @type {string} */ plane; /** @type {string[]} */ images;
  /** @type {any[]} */ shown; /** @type {any[]} */ rasters; /** @type {boolean} */ pending;
  /** @type {HTMLElement} */ element; /** @type {HTMLCanvasElement} */ image; /** @type {HTMLCanvasElement} */ marks;
  /** @type {number} */ width; /** @type {number} */ height; /** @type {number} */ ratio;
  /** @type {{c: CanvasRenderingContext2D, size: number, pad: number}} */ pen;

  /** @returns {{scale: number, left: number, top: number}} */
  get transform() { throw new Error("a pane has it"); }

  /** @returns {string} */
  get title() { throw new Error("a pane has it"); }

  /** @returns {number} */
  get bar() { throw new Error("a pane has it"); }

  /** @returns {boolean} */
  hasFailed() { throw new Error("a pane has it"); }

  /** @type {(i: number, x: number, y: number) => number | null} */
  valueAt() { throw new Error("a pane has it"); }

  drawMarks() {
    if (!this.width || !known.geometry) return;
    const c = this.marks.getContext("2d");
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    c.clearRect(0, 0, this.width, this.height);
    const size = parseFloat(getComputedStyle(document.documentElement).fontSize);
    this.pen = { c, size, pad: size * 0.7 };
    if (view.crosshair || view.plane === "all") this.drawCrosshair();
    this.drawGaps();
    this.drawSources();
    drawRegions(this);
    drawShapes(this);
    this.drawLine();
    if (this.kind === "wipe") this.drawDivider();
    if (this.kind === "difference") this.drawColours();
    if (view.loupe) this.drawLoupe();
    this.drawTitles();
    if (view.corners) this.drawCorners();
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

  /** Patient and slice at the top right, the window above the HU at the bottom left. */
  drawCorners() {
    const { pad, size } = this.pen;
    if (this.width < 17 * size || this.height < 12 * size) return;
    const style = { color: "#b9c2cc", size: 0.84 };
    const { count } = known.geometry.planes[this.plane];
    const lines = [known.state.series[view.series].patient, `${this.plane} ${sliceIndex(this.plane)} of 0 … ${count - 1}`];
    if (this.plane === "axial") lines.push(`z ${signed(known.geometry.z_mm[view.cursor[0]], 1)} mm`);
    if (view.slab) lines.push(`${SLABS[view.slab]} ${view.slabMm} mm`);
    const below = this.kind === "wipe" ? 1.4 * size : 0; // the second title stands there
    lines.forEach((line, i) => this.text(line, this.width - this.bar - pad, pad + below + 1.2 * size * i, { ...style, align: "right", base: "top" }));
    if (this.kind === "difference") return;
    const preset = Object.entries(known.state.presets).find(([, [center, width]]) => center === view.center && width === view.width);
    const name = preset ? `${preset[0].replace("_", " ")} · ` : "";
    this.text(`${name}C ${view.center} W ${view.width}${view.invert ? " inverted" : ""}`, pad, this.height - pad - 1.4 * size, { ...style, base: "bottom" });
  }

  /** What lies under the mouse, enlarged, at one place in every image of the plane. */
  drawLoupe() {
    if (!view.hover || view.hover.plane !== this.plane) return;
    const { c, size } = this.pen;
    const { scale, left, top } = this.transform;
    const [x, y] = [left + view.hover.x * scale, top + view.hover.y * scale];
    const radius = Math.min(LOUPE_EM * size, 0.45 * Math.min(this.width, this.height));
    const [across, down] = sizeMm(this.plane);
    c.save();
    c.beginPath();
    c.arc(x, y, radius, 0, 7);
    c.fillStyle = "#000";
    c.fill();
    c.clip();
    const draw = (i) => {
      if (!this.shown[i]) return;
      c.imageSmoothingEnabled = view.smooth;
      const enlarged = scale * LOUPE_TIMES;
      c.drawImage(this.rasters[i].canvas, x - view.hover.x * enlarged, y - view.hover.y * enlarged, across * enlarged, down * enlarged);
    };
    draw(this.kind === "blink" && view.flipped ? 1 : 0);
    if (this.kind === "wipe") {
      c.beginPath();
      c.rect(this.width * view.wipe, 0, this.width, this.height);
      c.clip();
      draw(1);
    }
    c.restore();
    c.beginPath();
    c.arc(x, y, radius, 0, 7);
    Object.assign(c, { lineWidth: 1.5, strokeStyle: "#dbe1e8" });
    c.stroke();
    this.text(`×${LOUPE_TIMES}`, x, y + radius - 0.4 * size, { align: "center", base: "bottom", size: 0.8 });
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
    const edge = pad + this.bar;
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
    const [right, y] = [this.width - this.bar - pad, this.height - pad];
    const left = right - length * scale;
    for (const { width, style } of [{ width: 3.5, style: "rgb(0 0 0 / 75%)" }, { width: 1.5, style: "#b9c2cc" }]) {
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
    const both = ["wipe", "checker"].includes(this.kind) ? [0, 1] : [i];
    const values = both.map((each) => this.valueAt(each, x, y));
    const texts = values.map((value) => (this.kind === "difference" ? `${value > 0 ? "+" : ""}${hu(value)}` : huAndClipped(value)));
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

  /** Rows where the series has no slice are hatched: nothing will be computed there. */
  drawGaps() {
    if (this.plane === "axial" || !known.geometry.z_rows.includes(-1)) return;
    const { c } = this.pen;
    const { pixel, size } = known.geometry.planes[this.plane];
    const { scale, left, top } = this.transform;
    const [width, height] = [size[1] * pixel[1] * scale, pixel[0] * scale];
    c.save();
    c.beginPath();
    known.geometry.z_rows.forEach((slice, row) => { if (slice < 0) c.rect(left, top + row * height, width, height); });
    c.clip();
    c.strokeStyle = "#8a6d3b";
    c.lineWidth = 1;
    c.beginPath();
    for (let x = left - size[0] * height; x < left + width; x += 9) { c.moveTo(x, top + size[0] * height); c.lineTo(x + size[0] * height, top); }
    c.stroke();
    c.restore();
  }

  /** Where source slices lie, on the pane from its top; none where every row is one. */
  get sources() {
    if (this.plane === "axial") return [];
    const { scale, top } = this.transform;
    return known.geometry.source_mm.map((y) => top + y * scale);
  }

  /** Marks at both edges of the pane, over whatever lies there. */
  drawSources() {
    const { c, size } = this.pen;
    const [length, right] = [0.55 * size, this.width - this.bar];
    for (const { width, style } of [{ width: 3, style: "rgb(0 0 0 / 75%)" }, { width: 1.4, style: "#e0c368" }]) {
      Object.assign(c, { lineWidth: width, strokeStyle: style });
      c.beginPath();
      for (const y of this.sources) {
        c.moveTo(0, y);
        c.lineTo(length, y);
        c.moveTo(right - length, y);
        c.lineTo(right, y);
      }
      c.stroke();
    }
  }

  drawLine() {
    const line = view.line;
    if (!line || line.plane !== this.plane) return;
    const { c } = this.pen;
    const { scale, left, top } = this.transform;
    const [from, to] = [line.from, line.to].map(([x, y]) => [left + x * scale, top + y * scale]);
    for (const { width, style } of [{ width: 3, style: "rgb(0 0 0 / 55%)" }, { width: 1.5, style: "#e2b35f" }]) {
      c.lineWidth = width;
      c.strokeStyle = style;
      c.beginPath();
      c.moveTo(from[0], from[1]); c.lineTo(to[0], to[1]);
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

  /** The difference's scale: colours and HU, beside the image. */
  drawColours() {
    const { c, pad, size } = this.pen;
    const [height, width] = [this.height * 0.5, 0.7 * size];
    const [x, y] = [this.width - pad - width, (this.height - height) / 2];
    c.fillStyle = "#000";
    c.fillRect(this.width - this.bar, 0, this.bar, this.height);
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
    this.text("0", x - 0.3 * size, y + height / 2, style);
    this.text(`−${range}`, x - 0.3 * size, y + height - 0.3 * size, style);
    this.text("HU", this.width - pad, y + height + 0.4 * size, { ...style, base: "top" });
  }

  drawWaiting() {
    const missing = this.kind === "image" || this.kind === "difference" ? !this.shown[0] : !this.shown.every(Boolean);
    if (!missing && !(this.pending && known.state.strength)) return;
    const forSr = this.images.includes("SR");
    const state = view.lost ? "no answer" : this.hasFailed() ? "cannot be shown" : forSr ? "computing SR …" : "…";
    this.text(state, this.width / 2, this.height / 2 - 1.6 * this.pen.size, { align: "center", color: "#8e99a6" });
  }
}
