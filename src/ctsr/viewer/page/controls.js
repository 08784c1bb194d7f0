// The bars at the top and the form of the degradation: what they offer, and in step with what is shown.

import { COARSE, rangeText } from "./format.js";
import { currentLayout } from "./layouts.js";
import { known, view } from "./state.js";

/** @type {(id: string) => any} */
const $ = (id) => document.getElementById(id);

export function fillSelects(state, actions) {
  const options = (select, pairs) => select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value)));
  const several = new Set(state.series.map((one) => one.patient)).size > 1;
  options($("series"), state.series.map((one) => [one.number, `${several || state.series.length === 1 ? `${one.patient} · ` : ""}${one.description} · ${one.slices}`]));
  options($("preset"), [...Object.keys(state.presets).map((name) => [name, name.replace("_", " ")]), ["", "own"]]);
  options($("image"), state.panels.map((name) => [name, name]));
  const fine = state.panels.filter((name) => !COARSE.includes(name));
  for (const id of ["minuend", "subtrahend"]) options($(id), fine.map((name) => [name, name]));
  for (const id of ["first", "second"]) options($(id), state.panels.map((name) => [name, name]));
  $("panels").replaceChildren(...[...state.panels, "Difference"].map((name) => {
    const button = Object.assign(document.createElement("button"), { textContent: name, className: name });
    button.title = name === "Difference" ? "Difference in HU (d)" : `${name} (shift+${state.panels.indexOf(name) + 1})`;
    button.addEventListener("click", () => actions.panel(name));
    return button;
  }));
  resetControls();
}

export function resetControls() {
  const { degradation } = known.state;
  const { elements } = $("controls");
  $("controls").reset();
  elements.mode.value = degradation.degradation;
  elements.sampling.value = degradation.sampling;
  elements.deg_seed.value = degradation.deg_seed;
}

export function showControls(stage) {
  const press = (selector, test) => document.querySelectorAll(selector).forEach((button) => button.setAttribute("aria-pressed", String(test(button))));
  press("#planes button", (button) => button.dataset.plane === view.plane);
  const single = view.plane === "all" && !view.compare;
  const ofPlanes = view.two ?? [view.image];
  press("#panels button", (button) => (single ? ofPlanes.includes(button.className) : view.panels.has(button.className)));
  /** @type {HTMLButtonElement} */ (document.querySelector("#panels .Difference")).disabled = single;
  const layout = currentLayout();
  $("layout").value = layout ? layout.name : "";
  $("slab").value = view.slab;
  $("slab-pick").hidden = !view.slab;
  press("#tools button", (button) => button.dataset.tool === view.tool);
  press("#compare button", (button) => button.dataset.compare === view.compare);
  press("#display button", (button) => view[button.dataset.toggle]);
  $("image-pick").hidden = view.plane !== "all" || Boolean(view.compare) || Boolean(view.two);
  $("difference-pick").hidden = !view.panels.has("Difference") || view.plane === "all" || Boolean(view.compare);
  $("pair-pick").hidden = !view.compare;
  const put = (id, value) => { if (document.activeElement !== $(id)) $(id).value = value; };
  put("slab-mm", view.slabMm);
  put("center", view.center); put("width", view.width); put("image", view.image);
  put("minuend", view.difference[0]); put("subtrahend", view.difference[1]); put("difference-range", view.differenceRange);
  $("difference-clip").checked = view.differenceClip;
  $("clip-range").textContent = rangeText(known.state.hu_range);
  put("first", view.pair[0]); put("second", view.pair[1]);
  put("preset", presetName());
  for (const pane of stage.panes) pane.element.className = `pane ${view.compare === "wipe" && view.tool === "point" ? "wiping" : view.tool}`;
}

export function presetName() {
  const found = Object.entries(known.state.presets).find(([, [center, width]]) => center === view.center && width === view.width);
  return found ? found[0] : "";
}
