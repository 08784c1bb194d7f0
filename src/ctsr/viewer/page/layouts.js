// Which images stand where, a few arrangements by name.

import { change, known, view } from "./state.js";

const RIVALS = ["Bicubic", "Bilinear", "Linear", "Lanczos"];

/** What SR is compared with, the usual first. */
export function rivals() {
  const { panels } = known.state;
  return RIVALS.filter((name) => panels.includes(name));
}

/**
 * {name, panels} or {name, two}: two images of three planes. The first one is what is opened.
 * @returns {{name: string, panels?: string[], two?: string[]}[]}
 */
export function layouts() {
  const { panels, strength, model } = known.state;
  const all = { name: "all images", panels };
  if (strength) {
    const [, interpolation] = panels;
    return [
      { name: "2 × 2", panels: ["Source", "SR", interpolation, "Difference"] }, { name: "Source · SR", panels: ["Source", "SR"] },
      all, { name: "3 planes × 2", two: ["Source", "SR"] },
    ];
  }
  // SR and what it is compared with first; without a model, the interpolations.
  const [best, rival] = [...(model ? ["SR"] : []), ...rivals()];
  return [
    { name: "2 × 2", panels: ["HR", best, ...(rival ? [rival] : []), "Difference"] }, { name: `LR · ${best} · HR`, panels: ["LR", best, "HR"] },
    all, { name: "3 planes × 2", two: [best, "HR"] },
  ];
}

/** @param {{panels?: string[], two?: string[]}} layout */
export function applyLayout({ panels, two }) {
  if (two) change({ plane: "all", two, compare: null, maximised: null });
  else change({ panels: new Set(panels), plane: view.plane === "all" ? "axial" : view.plane, two: null, compare: null, maximised: null });
}

/** The arrangement that is shown; undefined where it was put together by hand. */
export function currentLayout() {
  if (view.compare) return undefined;
  if (view.plane === "all") return layouts().find(({ two }) => two && String(two) === String(view.two));
  return layouts().find(({ panels }) => panels && String(panels) === String([...view.panels]));
}
