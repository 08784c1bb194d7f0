// Images as they are: sliders for what the network is told, and what comes of it.

import { definitions, escaped, mm } from "./format.js";
import { known, view } from "./state.js";

/** @type {(id: string) => any} */
const $ = (id) => document.getElementById(id);
const SETTLE_MS = 120; // a slider that rests for so long has been put there

export const isNative = () => Boolean(known.state?.strength);
/** Slices between slices: only how much noise is removed is chosen, and nothing is measured of the series. */
export const isBetween = () => Boolean(known.state?.strength?.slice_spacing);

/** Bind the sliders; `wanted` is told {denoise, sharpen, limit_noise} once they rest. */
export function bindStrength(wanted) {
  const { strength } = known.state;
  $("strength").hidden = !strength;
  $("degradation").hidden = Boolean(strength);
  if (!strength) return;
  for (const id of ["strengths", "sharpen", "limit-noise"]) $(id).closest(".group, .slide").hidden = isBetween();
  if (isBetween()) $("strength").querySelector("h2").textContent = "Slices between slices";
  let timer = null;
  const changed = (delay) => {
    showSliders();
    clearTimeout(timer);
    timer = setTimeout(() => wanted(asked()), delay);
  };
  for (const id of ["denoise", "sharpen"]) {
    $(id).disabled = !strength.conditional && !isBetween();
    $(id).addEventListener("input", () => changed(SETTLE_MS));
  }
  $("limit-noise").addEventListener("change", () => changed(0));
  $("strengths").replaceChildren(...Object.entries(strength.named).map(([name, { denoise, sharpen }]) => {
    const button = Object.assign(document.createElement("button"), { textContent: name, disabled: !strength.conditional });
    button.addEventListener("click", () => {
      Object.assign($("denoise"), { value: denoise });
      Object.assign($("sharpen"), { value: sharpen });
      exact = { denoise, sharpen };
      changed(0);
    });
    return button;
  }));
  resetStrength();
}

let exact = null; // of a named strength, which may lie between two places of a slider

function asked() {
  const value = (name) => (exact && Math.abs(exact[name] - Number($(name).value)) <= 0.0051 ? exact[name] : Number($(name).value));
  return isBetween() ? { denoise: value("denoise") } : { denoise: value("denoise"), sharpen: value("sharpen"), limit_noise: $("limit-noise").checked };
}

export function resetStrength() {
  const { strength } = known.state;
  if (!strength) return;
  exact = { denoise: strength.denoise, sharpen: strength.sharpen };
  $("denoise").value = strength.denoise;
  $("sharpen").value = strength.sharpen;
  $("limit-noise").checked = strength.limit_noise;
  showSliders();
}

function showSliders() {
  const { denoise, sharpen, limit_noise: limited } = asked();
  document.querySelector("[for=denoise]").textContent = denoise.toFixed(2);
  if (isBetween()) {
    $("command").textContent = `ctsr upscale IN OUT ${known.state.strength.between_flags}${denoise ? ` --denoise ${denoise}` : ""}`;
    return;
  }
  document.querySelector("[for=sharpen]").textContent = sharpen.toFixed(2);
  const { named, conditional } = known.state.strength;
  for (const button of $("strengths").children) {
    const place = named[button.textContent];
    button.setAttribute("aria-pressed", String(place.denoise === denoise && place.sharpen === sharpen));
  }
  const name = Object.keys(named).find((each) => named[each].denoise === denoise && named[each].sharpen === sharpen);
  const strength = name ? ` --strength ${name}` : ` --denoise ${denoise} --sharpen ${sharpen}`;
  $("command").textContent = `ctsr upscale IN OUT${conditional ? strength : ""}${limited ? "" : " --no_limit_noise"}`;
}

/** What the network is told, and before and after of the series; both as run.json of `ctsr upscale` has them. */
export function showStrength(made) {
  showWarnings(made);
  if (isBetween()) {
    showBetween(made);
    return;
  }
  const told = made.told ? `σ ${mm(made.told.blur_sigma_px, 3)} px, ${made.told.noise_hu.toFixed(1)} HU` : "nothing";
  const share = made.network_share === null ? "measuring …" : `${(100 * made.network_share).toFixed(0)} %`;
  $("told").innerHTML = definitions([["told", told], ["network's share", share]]);
  $("metrics").querySelector("h2").firstChild.textContent = "Before and after ";
  $("metrics-domain").textContent = made.before_after ? `${made.before_after.slices} slices of the series` : "";
  $("metrics").querySelector(".body").innerHTML = beforeAfter(made);
}

/** Where the slices lie, and how the marks at the edges of images are to be read. */
function showBetween(made) {
  const noise = made.noise.sigma_hu === null ? "–" : `${made.noise.sigma_hu.toFixed(1)} HU`;
  const told = made.told.noise_hu ? `noise of ${made.told.noise_hu.toFixed(1)} HU` : "no noise";
  const { slice_spacing: spacing, pixel_spacing: pixels } = known.state.strength;
  $("told").innerHTML = definitions([
    ["from", `${mm(made.thickness_mm)} mm slices, ${mm(made.distance_mm)} mm apart`],
    ["to", `${mm(spacing)} mm apart${pixels ? `, pixels of ${mm(pixels)} mm` : ""}`],
    ["told", told], ["noise of the source", noise],
  ]);
  $("metrics").querySelector("h2").firstChild.textContent = "Source slices ";
  $("metrics").querySelector(".body").innerHTML = '<p class="hint">Marks at the edges of coronal and sagittal images: where slices of the source lie. What is between them was not measured.</p>';
}

function showWarnings(made) {
  const warnings = [...known.state.caveats[view.series].map(({ text }) => text), ...made.warnings];
  $("caveats").hidden = !warnings.length;
  $("caveats").replaceChildren(...warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

const times = (value) => (value === null ? "–" : `×${value.toFixed(2)}`);
/** @type {[string, (each: any) => number | null, (value: number) => string, string][]} */
const ROWS = [
  ["noise", (each) => each.noise_ratio, times, "σ of the result over σ of the source, in the same homogeneous windows"],
  ["edges 10–90 % mm", (each) => each.edge_width_mm, (value) => value.toFixed(2), "median width of clear edges; narrower is sharper"],
  ["agreement HU", (each) => each.agreement_hu, (value) => value.toFixed(2), "mean distance from the source, smoothed"],
  ["overshoot", (each) => each.overshoot_share, (value) => `${(100 * value).toFixed(2)} %`, "pixels of the body more than 20 HU beyond the source around them"],
  ["largest bias HU", (each) => largest(each.bias_hu), (value) => value.toFixed(2), "of any tissue's mean"],
];

function largest(bias) {
  const values = Object.values(bias).map(Math.abs);
  return values.length ? Math.max(...values) : null;
}

function beforeAfter(made) {
  const noise = made.noise.sigma_hu;
  const before = noise === null ? `noise of the source: ${escaped(made.noise.reason)}` : `noise of the source ${noise.toFixed(1)} HU`;
  const after = made.before_after;
  if (!after) return `<p class="hint">${before}; measuring before and after …</p>`;
  const ratio = after.noise_ratio;
  const figure = ratio === null ? "" : `<p class="figure"><strong>${times(ratio)}</strong> noise of SR</p>`;
  const rows = ROWS.map(([name, value, text, help]) => {
    const cells = [made.bicubic, after].map(value).map((number) => `<td title="${number ?? ""}">${number === null ? "–" : text(number)}</td>`);
    return `<tr title="${help}"><th scope="row">${name}</th>${cells.join("")}</tr>`;
  });
  return `${figure}<table><caption>${before}</caption><tr><td></td><th scope="col">Bicubic</th><th scope="col">SR</th></tr>${rows.join("")}</table>`;
}
