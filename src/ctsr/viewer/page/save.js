// The view as a picture with its caption, and the numbers as CSV. Both are made here and leave through the browser.

import { mm } from "./format.js";
import { SLABS } from "./marks.js";
import { known, regionKey, sliceIndex, toldSlice, view } from "./state.js";
import { isBetween } from "./strength.js";

function stem() {
  const { patient } = known.state.series[view.series];
  const plane = view.plane === "all" ? "planes" : view.plane;
  return `ctsr_${patient}_${plane}_${sliceIndex(view.plane === "all" ? "axial" : view.plane)}`.replace(/[^\w.-]+/g, "_");
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** How SR of images as they are was made. */
function nativeLine(made) {
  const { model, version } = known.state;
  if (isBetween()) return `slices every ${mm(known.state.strength.slice_spacing)} mm of ${mm(made.thickness_mm)} mm slices ${mm(made.distance_mm)} mm apart by ${model.name} (${model.sha256.slice(0, 8)}, ${model.engine}), denoise ${mm(made.strength.denoise, 3)}${view.plane === "axial" ? "" : "; marks at the edges: slices of the source"} · ctsr ${version} · not for diagnosis`;
  const { denoise, sharpen } = made.strength;
  const noise = made.before_after?.noise_ratio ? `, noise ×${made.before_after.noise_ratio.toFixed(2)}` : "";
  return `SR ×${known.state.scale} by ${model.name} (${model.sha256.slice(0, 8)}, ${model.engine}), denoise ${mm(denoise, 3)}, sharpen ${mm(sharpen, 3)}${noise} · ctsr ${version} · not for diagnosis`;
}

/** What stands below a saved picture: the image, how it was made, and what is unusual about it. */
export function captionLines(drawn) {
  const one = known.state.series[view.series];
  const where = view.plane === "all"
    ? ["axial", "coronal", "sagittal"].map((plane) => `${plane} ${sliceIndex(plane)}`).join(", ")
    : `${view.plane} ${sliceIndex(view.plane)}`;
  const told = toldSlice() && ` of ${toldSlice()}`;
  const model = known.state.model ? `SR by ${known.state.model.name} (${known.state.model.sha256.slice(0, 8)})` : "without SR";
  return [
    `${one.patient} · ${one.description} · ${where}${view.slab ? `, ${SLABS[view.slab]} ${view.slabMm} mm` : ""} · window C ${view.center} W ${view.width} HU`,
    known.state.strength ? nativeLine(drawn) : `LR ×${known.state.scale}${told}: ${drawn.mode}, σ ${drawn.sigma.toFixed(3)} px, noise ${drawn.noise_hu.toFixed(1)} HU, dose ${drawn.dose.toFixed(3)}, seed ${drawn.deg_seed}, ${drawn.sampling} · ${model} · ctsr ${known.state.version}${known.state.model ? " · not for diagnosis" : ""}`,
    ...doubts(),
  ];
}

/** What must not be lost where pictures and numbers go: what is unusual about the series, and why to read its figures with care. */
function doubts() {
  const { warnings } = known.state.series[view.series];
  return [...warnings.map((text) => `${text[0].toUpperCase()}${text.slice(1)}.`), ...known.state.caveats[view.series].map(({ text }) => text)];
}

export async function savePicture(stage, plot, drawn) {
  const ratio = window.devicePixelRatio;
  const [width, height] = [stage.element.clientWidth, stage.element.clientHeight].map((length) => length * ratio);
  const size = 13 * ratio;
  const below = plot ? plot.height : 0;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.round(width), Math.round(height + below + (1.2 + 1.5 * captionLines(drawn).length) * size)];
  const c = canvas.getContext("2d");
  c.fillStyle = "#0b0d10";
  c.fillRect(0, 0, canvas.width, canvas.height);
  for (const pane of stage.panes) {
    const [left, top] = [parseFloat(pane.element.style.left) * ratio, parseFloat(pane.element.style.top) * ratio];
    c.drawImage(pane.image, left, top);
    c.drawImage(pane.marks, left, top);
  }
  if (plot) c.drawImage(plot, 0, height);
  c.font = `${size}px system-ui, "DejaVu Sans", sans-serif`;
  c.fillStyle = "#b9c2cc";
  captionLines(drawn).forEach((line, i) => c.fillText(line, size, height + below + (1.6 + 1.5 * i) * size, width - 2 * size));
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
  download(blob, `${stem()}.png`);
}

/** HU along the line: a row for each place, a column for each image. */
export function saveProfile(curves) {
  const { plane, from, to } = view.line;
  const names = Object.keys(curves);
  const count = curves[names[0]].length;
  const length = Math.hypot(to[0] - from[0], to[1] - from[1]);
  const slab = view.slab ? { slab: SLABS[view.slab], slab_mm: view.slabMm } : {};
  const lines = [["mm", "x_mm", "y_mm", ...names.map((name) => `${name}_hu`), ...Object.keys(slab)]];
  for (let i = 0; i < count; i++) {
    const share = i / (count - 1);
    lines.push([share * length, from[0] + (to[0] - from[0]) * share, from[1] + (to[1] - from[1]) * share, ...names.map((name) => curves[name][i] ?? ""), ...Object.values(slab)]);
  }
  const text = lines.map((line) => line.map(cell).join(",")).join("\n");
  download(new Blob([`${text}\n`], { type: "text/csv" }), `${stem()}_profile_${plane}.csv`);
}

/** One line for each method of the slice and of the region; floats with all their digits, and how they came about. */
export function saveNumbers(slice, region, drawn) {
  if (known.state.strength) {
    saveLines(nativeLines(region, drawn));
    return;
  }
  const names = Object.keys(known.state.metrics);
  const one = known.state.series[view.series];
  const plane = view.plane === "all" ? "axial" : view.plane;
  const columns = ["patient_id", "series_uid", "plane", "slice_index", "region", "image", ...names, "mean_hu", "sd_hu", "pixels", "window_center", "window_width", ...Object.keys(provenance(plane, drawn))];
  const lines = [columns];
  const add = (where, index, place, image, metrics, statistics = [], box = null) => lines.push([
    one.patient, one.uid, where, index, place, image, ...names.map((name) => metrics?.[name]?.value ?? ""),
    ...[0, 1, 2].map((i) => statistics[i] ?? ""), view.center, view.width, ...Object.values(provenance(where, drawn, box)),
  ]);
  for (const [method, metrics] of Object.entries(slice?.metrics ?? {})) add(plane, sliceIndex(plane), "whole", method, metrics);
  if (region && view.box) {
    const { methods } = known.state;
    for (const [image, statistics] of Object.entries(region.statistics)) {
      add(view.box.plane, sliceIndex(view.box.plane), placeOf(view.box), methods[image] ?? image, region.metrics[methods[image]], statistics, view.box);
    }
  }
  for (const [other, image, statistics] of kept()) add(other.plane, sliceIndex(other.plane), placeOf(other), known.state.methods[image] ?? image, null, statistics, other);
  saveLines(lines);
}

function placeOf({ top, left, rows, columns, shape }) {
  return `${top} ${left} ${rows} ${columns}${shape ? ` ${shape}` : ""}`;
}

/** [region, image, [mean, SD, pixels]] of the regions beside the one that is measured. */
function kept() {
  return view.regions.flatMap((region) => Object.entries(known.statistics.get(regionKey(region)) ?? {}).map(([image, statistics]) => [region, image, statistics]));
}

function saveLines(lines) {
  const text = lines.map((line) => line.map(cell).join(",")).join("\n");
  download(new Blob([`${text}\n`], { type: "text/csv" }), `${stem()}.csv`);
}

const SERIES_FIGURES = ["noise_ratio", "edge_width_mm", "agreement_hu", "overshoot_share", "overshoot_most_hu"];

/** Before and after of the series, a line for each method, and mean and SD of the region, a line for each image. */
function nativeLines(region, made) {
  const { state, geometry } = known;
  const one = state.series[view.series];
  const biases = Object.keys(made.before_after?.bias_hu ?? {});
  const how = isBetween() ? {
    slice_spacing_mm: state.strength.slice_spacing, denoise: made.strength.denoise, thickness_mm: made.thickness_mm, distance_mm: made.distance_mm, told_noise_hu: made.told.noise_hu,
    source_noise_hu: made.noise.sigma_hu ?? "", model: state.model.name, model_sha256: state.model.sha256, engine: state.model.engine,
    device: state.model.device, caveats: [...doubts(), ...made.warnings].join(" "), ctsr_version: state.version,
  } : {
    denoise: made.strength.denoise, sharpen: made.strength.sharpen, limit_noise: made.limit_noise, network_share: made.network_share,
    told_sigma_px: made.told?.blur_sigma_px ?? "", told_noise_hu: made.told?.noise_hu ?? "", source_noise_hu: made.noise.sigma_hu ?? "",
    measured_slices: made.before_after.slices, scale: state.scale, model: state.model.name, model_sha256: state.model.sha256,
    engine: state.model.engine, device: state.model.device, caveats: [...doubts(), ...made.warnings].join(" "),
    ctsr_version: state.version,
  };
  const columns = ["patient_id", "series_uid", "plane", "slice_index", "region", "image", ...SERIES_FIGURES, ...biases.map((tissue) => `bias_hu_${tissue}`), "mean_hu", "sd_hu", "pixels", "row_mm", "column_mm", ...Object.keys(how)];
  const lines = [columns];
  for (const [image, measured] of isBetween() ? [] : [["Bicubic", made.bicubic], ["SR", made.before_after]]) {
    lines.push([one.patient, one.uid, "", "", "series", image, ...SERIES_FIGURES.map((name) => measured[name] ?? ""), ...biases.map((tissue) => measured.bias_hu[tissue] ?? ""), "", "", "", "", "", ...Object.values(how)]);
  }
  if (region && view.box) {
    const empty = Array(SERIES_FIGURES.length + biases.length).fill("");
    const chosen = Object.entries(region.statistics).map(([image, statistics]) => [view.box, image, statistics]);
    for (const [each, image, statistics] of [...chosen, ...kept()]) {
      const { plane } = each;
      lines.push([one.patient, one.uid, plane, sliceIndex(plane), placeOf(each), image, ...empty, ...statistics, ...geometry.planes[plane].pixel, ...Object.values(how)]);
    }
  }
  return lines;
}

/** Column → value: everything that is needed to compute the numbers of a line again. */
function provenance(plane, drawn, box = null) {
  const { state, geometry } = known;
  const [row, column] = geometry.planes[plane].pixel;
  const inMm = (key, spacing) => (box ? box[key] * spacing : "");
  return {
    row_mm: row, column_mm: column, crop_top_px: geometry.crop[0], crop_left_px: geometry.crop[1], slice_z_mm: plane === "axial" ? geometry.z_mm[view.cursor[0]] : "",
    region_top_mm: inMm("top", row), region_left_mm: inMm("left", column), region_height_mm: inMm("rows", row), region_width_mm: inMm("columns", column),
    hu_low: state.hu_range[0], hu_high: state.hu_range[1], scale: state.scale, degradation: drawn.mode, degradation_sampling: drawn.sampling,
    deg_seed: drawn.deg_seed, patient_seed: drawn.patient_seed, degraded_slice: view.cursor[0], sigma_px: drawn.sigma, kernel_px: drawn.kernel,
    noise_sigma: drawn.noise_sigma, noise_hu: drawn.noise_hu, dose: drawn.dose,
    told_sigma_px: drawn.told?.sigma ?? "", told_noise_hu: drawn.told?.noise_hu ?? "", departures: drawn.departures.join("; "),
    model: state.model?.name ?? "", model_sha256: state.model?.sha256 ?? "", engine: state.model?.engine ?? "", device: state.model?.device ?? "",
    caveats: doubts().join(" "), ctsr_version: state.version,
  };
}

function cell(value) {
  const text = String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
