// HU along a line, through every image that is shown.

import { COLORS, NOTHING, signed } from "./format.js";
import { known, sizeMm, view } from "./state.js";

/** HU at points in mm, interpolated linearly between the image's own pixel centres; null where nothing is. */
export function sample(picture, plane, from, to, count) {
  const [across, down] = sizeMm(plane);
  const values = [];
  for (let i = 0; i < count; i++) {
    const share = count > 1 ? i / (count - 1) : 0;
    const x = ((from[0] + (to[0] - from[0]) * share) / across) * picture.columns - 0.5;
    const y = ((from[1] + (to[1] - from[1]) * share) / down) * picture.rows - 0.5;
    values.push(between(picture, x, y));
  }
  return values;
}

function between({ data, rows, columns }, x, y) {
  const clamp = (value, most) => Math.max(0, Math.min(most, value));
  const [cx, cy] = [clamp(x, columns - 1), clamp(y, rows - 1)];
  const [left, top] = [Math.floor(cx), Math.floor(cy)];
  const [right, bottom] = [Math.min(left + 1, columns - 1), Math.min(top + 1, rows - 1)];
  const corners = [data[top * columns + left], data[top * columns + right], data[bottom * columns + left], data[bottom * columns + right]];
  if (corners.includes(NOTHING)) return null;
  const [u, v] = [cx - left, cy - top];
  return (corners[0] * (1 - u) + corners[1] * u) * (1 - v) + (corners[2] * (1 - u) + corners[3] * u) * v;
}

export function lengthMm(line) {
  return Math.hypot(line.to[0] - line.from[0], line.to[1] - line.from[1]);
}

/** Name → values, for each image whose picture is there. */
export function curves(pictures) {
  const { plane, from, to } = view.line;
  const finest = Math.min(...known.geometry.planes[plane].pixel);
  const count = Math.max(2, Math.min(2000, Math.round((2 * lengthMm(view.line)) / finest)));
  return Object.fromEntries(Object.entries(pictures).map(([name, picture]) => [name, sample(picture, plane, from, to, count)]));
}

export function drawPlot(canvas, found, hover) {
  const ratio = window.devicePixelRatio;
  const { clientWidth: width, clientHeight: height } = canvas;
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const c = canvas.getContext("2d");
  c.scale(ratio, ratio);
  const size = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const frame = { left: 4.6 * size, right: width - 1.2 * size, top: 2.3 * size, bottom: height - 2.3 * size };
  const all = Object.values(found).flat().filter((value) => value !== null);
  if (!all.length) return;
  const range = padded(Math.min(...all), Math.max(...all));
  const length = lengthMm(view.line);
  const toX = (mm) => frame.left + (mm / length) * (frame.right - frame.left);
  const toY = (value) => frame.bottom - ((value - range[0]) / (range[1] - range[0])) * (frame.bottom - frame.top);
  c.font = `${0.82 * size}px system-ui, "DejaVu Sans", sans-serif`;
  drawAxes(c, frame, range, length, toX, toY, size);
  for (const [name, values] of Object.entries(found)) drawCurve(c, values, COLORS[name], (i) => toX((i / (values.length - 1)) * length), toY);
  drawLegend(c, found, frame, size, hover);
}

function padded(low, high) {
  const room = Math.max(5, 0.06 * (high - low));
  return [low - room, high + room];
}

function ticks(low, high, most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9; value += step) found.push(Number(value.toPrecision(10)));
  return found;
}

function drawAxes(c, frame, range, length, toX, toY, size) {
  c.lineWidth = 1;
  c.strokeStyle = "#242b33";
  c.fillStyle = "#8e99a6";
  Object.assign(c, { textAlign: "right", textBaseline: "middle" });
  for (const value of ticks(range[0], range[1], Math.max(2, (frame.bottom - frame.top) / (1.7 * size)))) {
    c.beginPath(); c.moveTo(frame.left, toY(value)); c.lineTo(frame.right, toY(value)); c.stroke();
    c.fillText(signed(value), frame.left - 0.5 * size, toY(value));
  }
  Object.assign(c, { textAlign: "center", textBaseline: "top" });
  for (const mm of ticks(0, length, Math.max(2, (frame.right - frame.left) / (6 * size)))) {
    if (toX(mm) < frame.right - 3 * size) c.fillText(String(mm), toX(mm), frame.bottom + 0.4 * size);
  }
  c.textAlign = "right";
  c.fillText("mm", frame.right, frame.bottom + 0.4 * size);
  Object.assign(c, { textAlign: "right", textBaseline: "middle" });
  c.fillText("HU", frame.left - 0.5 * size, 1.1 * size);
}

function drawCurve(c, values, color, x, y) {
  c.strokeStyle = color;
  c.lineWidth = 1.6;
  c.lineJoin = "round";
  c.beginPath();
  let open = false;
  values.forEach((value, i) => {
    if (value === null) open = false;
    else if (open) c.lineTo(x(i), y(value));
    else { c.moveTo(x(i), y(value)); open = true; }
  });
  c.stroke();
}

/** Names in their colours, and behind each its HU where the mouse is on the plot. */
function drawLegend(c, found, frame, size, hover) {
  let x = frame.left;
  const share = hover === null ? null : (hover - frame.left) / (frame.right - frame.left);
  const inside = share !== null && share >= 0 && share <= 1;
  Object.assign(c, { textAlign: "left", textBaseline: "middle" });
  for (const [name, values] of Object.entries(found)) {
    const value = inside ? values[Math.round(share * (values.length - 1))] : null;
    const text = value === null ? name : `${name} ${signed(value, 0)}`;
    c.fillStyle = COLORS[name];
    c.fillRect(x, 1.1 * size - 1, 1.1 * size, 2);
    c.fillStyle = "#dbe1e8";
    c.fillText(text, x + 1.5 * size, 1.1 * size);
    x += c.measureText(text).width + 3.2 * size;
  }
  if (inside) {
    c.strokeStyle = "#5a6470";
    c.lineWidth = 1;
    c.beginPath(); c.moveTo(hover, frame.top); c.lineTo(hover, frame.bottom); c.stroke();
  }
}
