// What a reload keeps, in the part of the address behind #: it never leaves the browser.

import { PLANES } from "./format.js";
import { known, view } from "./state.js";

const WRITE_MS = 300; // browsers limit how often an address may change
let timer = null;
let own = location.hash; // what the page has read or written itself

export function toAddress() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (location.hash !== own) return; // somebody typed another address, which the next reload goes to
    const { box } = view;
    const kept = new URLSearchParams({ series: String(view.series), plane: view.plane, cursor: view.cursor.join(), window: `${view.center},${view.width}` });
    if (box) kept.set("roi", [box.plane, box.top, box.left, box.rows, box.columns, ...(box.shape ? [box.shape] : [])].join());
    if (view.classic) kept.set("mouse", "classic");
    history.replaceState(null, "", `#${kept}`);
    own = location.hash;
  }, WRITE_MS);
}

/** {series, cursor, box, view: {plane, center, width}}, or null where the address holds nothing that fits. */
export function fromAddress() {
  const kept = new URLSearchParams(location.hash.slice(1));
  const numbers = (text) => (text ?? "").split(",").map((part) => (part === "" ? NaN : Number(part)));
  const whole = (list, count) => list.length === count && list.every((value) => Number.isInteger(value) && value >= 0);
  const [series, cursor, [center, width]] = [numbers(kept.get("series")), numbers(kept.get("cursor")), numbers(kept.get("window"))];
  const plane = kept.get("plane");
  if (!whole(series, 1) || series[0] >= known.state.series.length || !whole(cursor, 3)) return null;
  if (![...PLANES, "all"].includes(plane) || !Number.isFinite(center) || !(width > 0) || !Number.isFinite(width)) return null;
  const [boxPlane, ...place] = (kept.get("roi") ?? "").split(",");
  const shape = place.length === 5 && place[4] === "ellipse" ? { shape: place.pop() } : {};
  const [top, left, rows, columns] = place.map(Number);
  const box = PLANES.includes(boxPlane) && whole(place.map(Number), 4) && rows && columns ? { plane: boxPlane, top, left, rows, columns, ...shape } : null;
  return { series: series[0], cursor, box, view: { plane, center, width, classic: kept.get("mouse") === "classic" } };
}
