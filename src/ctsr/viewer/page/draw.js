// HU to colours, by tables of 65 536 entries: one look-up a pixel, so that a window can be dragged.

import { NOTHING } from "./format.js";

const EMPTY = 0xff0f0c0a; // ABGR: where there is nothing, slightly lighter than black
const BEYOND = 0xffd84fe0; // magenta: HU that metrics clip

function table(colour) {
  const lut = new Uint32Array(65536);
  for (let value = -32768; value < 32768; value++) lut[value & 0xffff] = colour(value);
  lut[NOTHING & 0xffff] = EMPTY;
  return lut;
}

/** Grey levels of a window: its lower end black, its upper end white; HU beyond `range` in a colour where given. */
export function windowTable(center, width, range = null, invert = false) {
  const low = center - width / 2;
  return table((value) => {
    if (range && (value < range[0] || value > range[1])) return BEYOND;
    const grey = Math.max(0, Math.min(255, Math.floor(((value - low) / width) * 255 + 0.5)));
    const level = invert ? 255 - grey : grey;
    return 0xff000000 | (level << 16) | (level << 8) | level;
  });
}

// Black in the middle: where two images agree, a dark room stays dark.
const BELOW = [[0, 0, 0], [28, 78, 168], [120, 200, 255]];
const ABOVE = [[0, 0, 0], [182, 56, 30], [255, 205, 120]];

export function diverging(share) {
  const stops = share < 0 ? BELOW : ABOVE;
  const place = Math.min(1, Math.abs(share)) * 2;
  const first = Math.min(1, Math.floor(place));
  return stops[first].map((one, i) => Math.round(one + (stops[first + 1][i] - one) * (place - first)));
}

export function differenceTable(range) {
  return table((value) => {
    const [red, green, blue] = diverging(value / range);
    return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
  });
}

/**
 * Two pictures of the same size → their difference in HU, and where either is beyond `range`.
 * With `clip`, both are clipped to the range first, as HU metrics do.
 */
export function difference(one, other, [low, high], clip) {
  const data = new Int16Array(one.data.length);
  const beyond = new Uint8Array(data.length);
  const [a, b] = [one.data, other.data];
  const limited = (value) => Math.max(low, Math.min(high, value));
  for (let i = 0; i < data.length; i++) {
    if (a[i] === NOTHING || b[i] === NOTHING) {
      data[i] = NOTHING;
      continue;
    }
    beyond[i] = a[i] < low || a[i] > high || b[i] < low || b[i] > high ? 1 : 0;
    const value = clip ? limited(a[i]) - limited(b[i]) : a[i] - b[i];
    data[i] = Math.max(-32767, Math.min(32767, value));
  }
  return { data, beyond, rows: one.rows, columns: one.columns, complete: one.complete && other.complete };
}

/** A picture painted through a table, at its own size. */
export class Raster {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.picture = null;
    this.lut = null;
    this.marked = false;
  }

  /** With `marked`, pixels of `picture.beyond` have a colour of their own. */
  paint(picture, lut, marked = false) {
    if (this.picture === picture && this.lut === lut && this.marked === marked) return this.canvas;
    if (!this.pixels || this.pixels.width !== picture.columns || this.pixels.height !== picture.rows) {
      [this.canvas.width, this.canvas.height] = [picture.columns, picture.rows];
      this.context = this.canvas.getContext("2d");
      this.pixels = this.context.createImageData(picture.columns, picture.rows);
      this.words = new Uint32Array(this.pixels.data.buffer);
    }
    const values = new Uint16Array(picture.data.buffer);
    const words = this.words;
    for (let i = 0; i < words.length; i++) words[i] = lut[values[i]];
    if (marked && picture.beyond) for (let i = 0; i < words.length; i++) if (picture.beyond[i]) words[i] = BEYOND;
    this.context.putImageData(this.pixels, 0, 0);
    [this.picture, this.lut, this.marked] = [picture, lut, marked];
    return this.canvas;
  }
}
