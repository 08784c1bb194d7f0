// Regions, lengths and angles: what the mouse takes hold of, how they change, and how they are drawn.

import { signed } from "./format.js";
import { change, known, regionKey, sizeMm, sliceIndex, view } from "./state.js";

const REACH_PX = 7; // so near a corner or an edge takes hold of it
const ROUNDING = 1e-6; // of a pixel: an edge in mm and back is not quite where it was
const COLOUR = "#e2b35f";
const KEPT = "#8fb7e6";

export function allRegions() {
  return view.box ? [view.box, ...view.regions] : view.regions;
}

/** Left, top, right and bottom in mm. */
function edges({ plane, left, top, rows, columns }) {
  const { pixel } = known.geometry.planes[plane];
  return [left * pixel[1], top * pixel[0], (left + columns) * pixel[1], (top + rows) * pixel[0]];
}

/** The pixels at full resolution that a rectangle in mm touches. */
export function boxOf(plane, a, b, shape = undefined) {
  const { pixel, size } = known.geometry.planes[plane];
  const span = (i, axis) => {
    const from = Math.max(0, Math.floor(Math.min(a[i], b[i]) / pixel[axis] + ROUNDING));
    const to = Math.min(size[axis], Math.max(from + 1, Math.ceil(Math.max(a[i], b[i]) / pixel[axis] - ROUNDING)));
    return [Math.min(from, size[axis] - 1), to];
  };
  const [[left, right], [top, bottom]] = [span(0, 1), span(1, 0)];
  const box = { plane, top, left, rows: bottom - top, columns: right - left };
  return shape ? { ...box, shape } : box;
}

/** What of a region lies under a point: {region, fixed corner} or {region, grip: "whole"}; null where nothing does. */
export function regionAt(pane, [x, y]) {
  const reach = REACH_PX / pane.transform.scale;
  for (const region of allRegions()) {
    if (region.plane !== pane.plane) continue;
    const [left, top, right, bottom] = edges(region);
    for (const [cx, cy, ox, oy] of [[left, top, right, bottom], [right, top, left, bottom], [left, bottom, right, top], [right, bottom, left, top]]) {
      if (Math.hypot(x - cx, y - cy) < reach) return { region, fixed: [ox, oy] };
    }
    const inside = x > left - reach && x < right + reach && y > top - reach && y < bottom + reach;
    const within = x > left + reach && x < right - reach && y > top + reach && y < bottom - reach;
    if (inside && !within) return { region, grip: "whole" };
  }
  return null;
}

/** Make a region the one that is measured. */
export function select(region) {
  if (region === view.box) return;
  const others = view.regions.filter((each) => each !== region);
  change({ box: region, regions: view.box ? [view.box, ...others] : others });
}

/** The measured region moved by mm from where it was, inside the image. */
export function moved(start, [dx, dy]) {
  const { pixel, size } = known.geometry.planes[start.plane];
  const place = (from, by, step, length, whole) => Math.max(0, Math.min(whole - length, from + Math.round(by / step)));
  return { ...start, left: place(start.left, dx, pixel[1], start.columns, size[1]), top: place(start.top, dy, pixel[0], start.rows, size[0]) };
}

/** The arrow keys' step: the measured region by a pixel, or with `grow` its lower right corner. */
export function nudge(dx, dy, grow) {
  const { box } = view;
  if (!box) return;
  const { size } = known.geometry.planes[box.plane];
  const next = grow
    ? { ...box, columns: Math.max(1, Math.min(size[1] - box.left, box.columns + dx)), rows: Math.max(1, Math.min(size[0] - box.top, box.rows + dy)) }
    : { ...box, left: Math.max(0, Math.min(size[1] - box.columns, box.left + dx)), top: Math.max(0, Math.min(size[0] - box.rows, box.top + dy)) };
  change({ box: next });
}

/** Remove the measured region, or what was drawn last. */
export function removeLast() {
  if (view.box) change({ box: view.regions[0] ?? null, regions: view.regions.slice(1) });
  else change({ shapes: view.shapes.slice(0, -1) });
}

export function lengthOf([a, b]) {
  return Math.hypot(b[0] - a[0], b[1] - a[1]);
}

/** Degrees at the middle one of three points. */
export function angleOf([a, corner, b]) {
  const [u, v] = [a, b].map(([x, y]) => [x - corner[0], y - corner[1]]);
  const cosine = (u[0] * v[0] + u[1] * v[1]) / (Math.hypot(...u) * Math.hypot(...v));
  return (Math.acos(Math.max(-1, Math.min(1, cosine))) * 180) / Math.PI;
}

/** A rectangle or ellipse in the middle of what is seen, for hands on a keyboard. */
export function middleRegion(plane, shape) {
  const [across, down] = sizeMm(plane);
  return boxOf(plane, [0.4 * across, 0.4 * down], [0.6 * across, 0.6 * down], shape);
}

function twice(c, path, colour) {
  for (const [width, style] of [[3, "rgb(0 0 0 / 55%)"], [1.5, colour]]) {
    Object.assign(c, { lineWidth: width, strokeStyle: style });
    c.stroke(path);
  }
}

/** Every region of a pane's plane, with mean and SD of the pane's image. */
export function drawRegions(pane) {
  const { c, size } = pane.pen;
  const { scale, left, top } = pane.transform;
  for (const region of allRegions()) {
    if (region.plane !== pane.plane) continue;
    const [x0, y0, x1, y1] = edges(region).map((mm, i) => (i % 2 ? top : left) + mm * scale);
    const colour = region === view.box ? COLOUR : KEPT;
    const path = new Path2D();
    if (region.shape === "ellipse") path.ellipse((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2, 0, 0, 7);
    else path.rect(x0, y0, x1 - x0, y1 - y0);
    twice(c, path, colour);
    if (region === view.box) for (const [x, y] of [[x0, y0], [x1, y0], [x0, y1], [x1, y1]]) { c.fillStyle = colour; c.fillRect(x - 2.5, y - 2.5, 5, 5); }
    const statistics = pane.kind === "image" ? known.statistics.get(regionKey(region))?.[pane.images[0]] : null;
    if (statistics && pane.width > 12 * size) pane.text(`${signed(statistics[0], 1)} ± ${statistics[1].toFixed(1)} HU${view.slab ? " (slice)" : ""}`, x0, y1 + 0.25 * size, { base: "top", size: 0.82, color: colour });
  }
}

/** Lengths and angles of the slice in view. */
export function drawShapes(pane) {
  const { c, size } = pane.pen;
  const { scale, left, top } = pane.transform;
  const there = view.shapes.filter((shape) => shape.plane === pane.plane && shape.index === sliceIndex(pane.plane));
  for (const { kind, points } of there) {
    const places = points.map(([x, y]) => [left + x * scale, top + y * scale]);
    const path = new Path2D();
    places.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
    twice(c, path, COLOUR);
    const [x, y] = kind === "angle" ? places[1] : places.at(-1);
    const text = kind === "length" ? `${lengthOf(points).toFixed(1)} mm` : points.length === 3 ? `${angleOf(points).toFixed(1)}°` : "";
    pane.text(text, x + 0.5 * size, y, { base: "middle", size: 0.86, color: COLOUR });
  }
}
