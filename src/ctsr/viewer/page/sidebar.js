// The column on the right: where we are, numbers, degradation, series, model.

import { IMAGES, definitions, escaped, metric, mm, rangeText, signed } from "./format.js";
import { rivals } from "./layouts.js";
import { keyPlane, known, sliceIndex, toldSlice, view } from "./state.js";

/** @type {(id: string) => any} */
const $ = (id) => document.getElementById(id);
const LABELS = { MAE_HU: "MAE HU", RMSE_HU: "RMSE HU", BIAS_HU: "Bias HU", PSNR: "PSNR dB", MSE: "MSE ·10⁻³" };
const ORDER = ["PSNR", "SSIM", "MSE", "RMSE", "MAE"];

export function showSlice() {
  const plane = keyPlane();
  const { count } = known.geometry.planes[plane];
  const index = sliceIndex(plane);
  Object.assign($("slider"), { max: count - 1, value: index });
  if (document.activeElement !== $("index")) $("index").value = index;
  $("index").max = count - 1;
  $("total").textContent = `of 0 … ${count - 1}`;
  const z = known.geometry.z_mm[view.cursor[0]];
  $("where").textContent = plane === "axial" ? `${plane} · z ${signed(z, 1)} mm` : plane;
}

export function showFacts() {
  const one = known.state.series[view.series];
  const [row, column] = one.pixel_spacing;
  const pixel = row === column ? mm(row) : `${mm(row)} × ${mm(column)}`;
  $("facts").innerHTML = definitions([
    ["patient", one.patient], ["series", one.description], ["matrix", `${one.columns} × ${one.rows} × ${one.slices}`],
    ["pixel", `${pixel} mm`], ["step", one.step === null ? "–" : `${mm(one.step)} mm`],
    ["thickness", one.thickness === null ? "–" : `${mm(one.thickness)} mm`],
    ["kernel", one.kernel || "–"], ["scanner", one.scanner || "–"],
  ]);
}

export function showModel() {
  const { model, scale } = known.state;
  const facts = model
    ? [["name", model.name], ["network", model.architecture], ["engine", model.engine], ["device", model.device], ...(known.state.strength?.slice_spacing ? [] : [["scale", `×${scale}`]])]
    : [["scale", `×${scale}`]];
  $("model-facts").innerHTML = definitions(facts);
  $("model-facts").title = model ? `${model.path}\nsha256 ${model.sha256}` : "";
  $("model").querySelector("h2").textContent = model ? "Model" : "No model";
}

/** What was said when the series were read: warnings, and why there is no SR. */
export function showNotes() {
  const { notes } = known.state;
  $("notes").hidden = !notes.length;
  $("notes").querySelector("ul").replaceChildren(...notes.map((note) => {
    return Object.assign(document.createElement("li"), { textContent: note.replace(/^warning: (\S*\/)?/, "") });
  }));
}

/** Reasons to read the figures of this series with care. */
export function showCaveats() {
  const found = known.state.caveats[view.series];
  $("caveats").hidden = !found.length;
  $("caveats").replaceChildren(...found.map(({ text }) => Object.assign(document.createElement("li"), { textContent: text })));
}

/** Under the slider: the slices whose SR is there. */
function showTrack({ total, SR_runs: runs }) {
  const stops = runs.flatMap(([from, to]) => {
    const [a, b] = [(100 * from) / total, (100 * to) / total];
    return [`transparent ${a}%`, `var(--accent) ${a}%`, `var(--accent) ${b}%`, `transparent ${b}%`];
  });
  const shown = known.state.model && keyPlane() === "axial";
  $("track").style.background = shown && stops.length ? `linear-gradient(to right, ${stops.join(", ")})` : "none";
}

let newest = -1; // answers and events overtake each other

export function showProgress(progress) {
  const { total, clock } = progress;
  if (clock < newest) return;
  newest = clock;
  showTrack(progress);
  const rows = [];
  const reformatted = view.plane !== "axial";
  if (reformatted && progress.LR < total) rows.push(["LR", progress.LR]);
  if (known.state.model) rows.push(["SR", progress.SR]);
  $("progress").replaceChildren(...rows.map(([name, count]) => {
    const meter = document.createElement("div");
    meter.className = "meter";
    meter.innerHTML = `${name} ${count} of ${total} slices<div><i></i></div>`;
    meter.querySelector("i").style.width = `${(100 * count) / total}%`;
    return meter;
  }));
  if (progress.full && rows.some(([, count]) => count < total)) {
    const hint = { className: "hint", textContent: "The cache is full: slices far from this one wait. --cache_mb makes room." };
    $("progress").append(Object.assign(document.createElement("p"), hint));
  }
}

export function showDegradation(drawn) {
  const noise = drawn.noise_sigma ? `${mm(drawn.noise_sigma, 3)} → ${drawn.noise_hu.toFixed(1)} HU` : "none";
  const told = drawn.told && `σ ${drawn.told.sigma.toFixed(3)} px, ${drawn.told.noise_hu.toFixed(1)} HU (${drawn.told.source})`;
  $("drawn").innerHTML = definitions([
    ...(toldSlice() ? [["of", toldSlice()]] : []), ["mode", drawn.mode], ["σ", drawn.sigma ? `${drawn.sigma.toFixed(3)} px` : "none"],
    ["kernel", drawn.kernel > 1 ? `${drawn.kernel} px` : "none"], ["noise", noise],
    ["dose", drawn.dose.toFixed(3)], ["sampling", drawn.sampling], ["seed", `${drawn.deg_seed} (patient ${drawn.patient_seed})`],
    ...(told ? [["SR told", told]] : []),
  ]);
  $("drawn").title = `σ ${drawn.sigma}\nnoise ${drawn.noise_sigma}\ndose ${drawn.dose}`;
  showAgreement(drawn.departures);
}

/** Whether LR and metrics are those of the evaluation. */
export function showAgreement(departures) {
  const { evaluation } = known.state;
  const why = [...departures];
  if (evaluation && (evaluation.window[0] !== view.center || evaluation.window[1] !== view.width)) {
    why.push(`metrics are in another window than its ${evaluation.tag}`);
  }
  const text = $("agreement");
  text.className = why.length ? "departs" : "";
  if (why.length) text.textContent = `${evaluation ? "Departs from the evaluation" : "Departs from the start"}: ${why.join("; ")}.`;
  else text.textContent = evaluation ? "Degraded as in the evaluation, to the bit; metrics are taken as for its CSV." : "";
  text.hidden = !text.textContent;
}

const NOTHING_SEEN = "HR is all black or all white in this window: figures taken in it say nothing.";

function merit(value, better) {
  return { higher: value, lower: -value, "nearer 0": -Math.abs(value) }[better];
}

const isHu = (name) => known.state.metrics[name].group === "hu";

/** The metrics by the range of HU that they are taken in, each under a heading that names it. */
function tables({ metrics, coverage }) {
  const window = `in the window ${rangeText([view.center - view.width / 2, view.center + view.width / 2])} HU`;
  const clipped = `in HU, both images clipped to ${rangeText(known.state.hu_range)}`;
  const inside = coverage.constant ? NOTHING_SEEN : `${share(coverage.in_window)} of HR lies inside.`;
  return [
    table(metrics, (name) => !isHu(name), window, coverage.constant), `<p class="hint${coverage.constant ? " caveat" : ""}">${inside}</p>`,
    table(metrics, isHu, clipped, false), `<p class="hint">${share(coverage.outside_range)} of HR is clipped. Hover, mean and difference are not.</p>`,
  ].join("");
}

function share(part) {
  if (part === 0) return "Nothing";
  return part < 0.001 ? "Less than 0.1 %" : `${(100 * part).toFixed(1)} %`;
}

/** The one number to read first: what SR gains in PSNR. */
function figure(metrics) {
  const { methods } = known.state;
  const psnr = (panel) => metrics[methods[panel]]?.PSNR?.value ?? null;
  const [rival] = rivals();
  const [sr, other] = [psnr("SR"), psnr(rival)];
  if (sr === null) return other === null ? "" : `<p class="figure"><strong>${other.toFixed(2)} dB</strong> PSNR of ${rival.toLowerCase()}</p>`;
  const trained = known.state.caveats[view.series].some(({ kind }) => kind === "trained");
  const gain = other === null ? "" : `, ${sr >= other ? "+" : "\u2212"}${Math.abs(sr - other).toFixed(2)} dB to ${rival.toLowerCase()}`;
  return `<p class="figure${trained ? " doubtful" : ""}"><strong>${sr.toFixed(2)} dB</strong> PSNR of SR${gain}${trained ? " (trained on this patient)" : ""}</p>`;
}

/** Rows of metrics, columns of methods, the best of each row marked; a model that was trained on this patient cannot be best. */
function table(metrics, wanted, heading, meaningless) {
  const trained = known.state.caveats[view.series].some(({ kind }) => kind === "trained");
  const panels = Object.entries(known.state.methods).filter(([, name]) => name in metrics);
  const methods = panels.map(([, name]) => name);
  const names = Object.keys(known.state.metrics).filter((name) => wanted(name) && methods.some((method) => metrics[method][name]));
  const ranked = panels.map(([panel]) => !(trained && panel === "SR"));
  names.sort((a, b) => rank(a) - rank(b));
  const head = `<tr><td></td>${panels.map(([panel]) => `<th scope="col"${trained && panel === "SR" ? ' title="trained on this patient"' : ""}><span class="${panel}">${panel}${trained && panel === "SR" ? "*" : ""}</span></th>`).join("")}</tr>`;
  const rows = names.map((name) => {
    const values = methods.map((method) => metrics[method][name]);
    const merits = values.map((one, i) => (one?.value ?? null) === null || !ranked[i] ? -Infinity : merit(one.value, known.state.metrics[name].better));
    const best = Math.max(...merits);
    const differ = merits.some((each, i) => ranked[i] && each !== best);
    const cells = values.map((one, i) => {
      const marked = !meaningless && differ && merits[i] === best && best > -Infinity;
      return `<td${marked ? ' class="best"' : ""} title="${escaped(String(one?.value ?? one?.reason ?? ""))}">${metric(one?.value, name)}</td>`;
    });
    return `<tr><th scope="row">${LABELS[name] ?? name}</th>${cells.join("")}</tr>`;
  });
  return `<table${meaningless ? ' class="meaningless"' : ""}><caption>${heading}</caption>${head}${rows.join("")}</table>`;
}

function rank(name) {
  const place = ORDER.indexOf(name);
  return place < 0 ? ORDER.length : place;
}

export function showMetrics(answer) {
  $("metrics-domain").textContent = "compared with HR";
  const body = $("metrics").querySelector(".body");
  if (!answer) {
    body.classList.add("waiting");
    if (!body.children.length) body.innerHTML = '<p class="hint">measuring …</p>';
    return;
  }
  body.classList.remove("waiting");
  const waiting = answer.sr_missing ? '<p class="hint">SR follows when it is computed.</p>' : "";
  const plane = view.plane === "axial" || view.plane === "all" ? "" : `<p class="hint">Of this ${view.plane} picture; evaluations measure axial slices.</p>`;
  body.innerHTML = Object.keys(answer.metrics).length
    ? `${answer.coverage.constant ? `<p class="hint caveat">${NOTHING_SEEN}</p>` : figure(answer.metrics)}${folded(body, answer)}${waiting}${plane}`
    : waiting || '<p class="hint">when all slices are computed</p>';
}

/** All metrics, behind one line until it is opened; opened it stays. */
function folded(body, answer) {
  const open = body.querySelector("details")?.open ?? false;
  return `<details${open ? " open" : ""}><summary>All metrics</summary>${tables(answer)}</details>`;
}

export function showRegion(answer) {
  $("region").hidden = !view.box;
  if (!view.box) return;
  const { pixel } = known.geometry.planes[view.box.plane];
  const { rows, columns } = view.box;
  $("region-size").textContent = `${(columns * pixel[1]).toFixed(1)} × ${(rows * pixel[0]).toFixed(1)} mm`;
  const body = $("region").querySelector(".body");
  if (!answer) return body.classList.add("waiting");
  body.classList.remove("waiting");
  const lines = IMAGES.filter((name) => answer.statistics[name]).map((name) => {
    const [mean, sd, count] = answer.statistics[name];
    return `<tr><th scope="row">${name}</th><td title="${mean}">${signed(mean, 1)}</td><td title="${sd}">${sd.toFixed(1)}</td><td>${count}</td></tr>`;
  });
  const of = view.slab ? ", of the slice, not of the slab" : "";
  const head = `<caption>HU as they are, not clipped${of}</caption><tr><td></td><th scope="col">mean HU</th><th scope="col">SD</th><th scope="col">pixels</th></tr>`;
  body.innerHTML = `<table>${head}${lines.join("")}</table>${Object.keys(answer.metrics).length ? folded(body, answer) : ""}`;
  return undefined;
}

export function showUnder() {
  const { hover } = view;
  if (!hover) {
    $("under").textContent = "";
    return;
  }
  const { pixel, size } = known.geometry.planes[hover.plane];
  const [row, column] = [Math.floor(hover.y / pixel[0]), Math.floor(hover.x / pixel[1])];
  if (row < 0 || column < 0 || row >= size[0] || column >= size[1]) {
    $("under").textContent = "";
    return;
  }
  $("under").textContent = `${hover.plane} ${sliceIndex(hover.plane)} · row ${row} · column ${column} · ${hover.x.toFixed(1)}, ${hover.y.toFixed(1)} mm`;
}

export function say(text, bad = false) {
  $("news").textContent = text;
  $("news").className = bad ? "bad" : "";
}
