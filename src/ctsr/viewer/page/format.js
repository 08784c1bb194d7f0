// How numbers and names read.

export const PLANES = ["axial", "coronal", "sagittal"];
export const IMAGES = ["LR", "Source", "Bilinear", "Bicubic", "Lanczos", "Linear", "Cubic", "SR", "HR"];
export const COARSE = ["LR", "Source"]; // whose pixels are larger by the scale
export const COLORS = {
  LR: "#93a0ad", Source: "#93a0ad", Bilinear: "#7aa6e8", Bicubic: "#dfae62", Lanczos: "#b3a590", Linear: "#d08aa8", Cubic: "#dfae62", SR: "#6fc7b5", HR: "#f1f4f7", Difference: "#c792dd",
};
export const NOTHING = -32768;

const MINUS = "\u2212";

export function signed(number, digits = 0) {
  const text = Math.abs(number).toFixed(digits);
  return (number < 0 && Number(text) !== 0 ? MINUS : "") + text;
}

export function hu(value) {
  return value === null || value === NOTHING ? "–" : `${signed(value)} HU`;
}

/** Two ends of a range in HU: "−1000 … 2000". */
export function rangeText([low, high]) {
  return `${signed(low)} … ${signed(high)}`;
}

export function mm(value, digits = 4) {
  return value === null || value === undefined ? "–" : String(Number(value.toPrecision(digits)));
}

/** A metric in a table: as many digits as differ between methods. */
export function metric(value, name) {
  if (value === null || value === undefined) return "–";
  if (name === "MSE") return signed(1000 * value, 3); // its heading says so
  return signed(value, { SSIM: 4, RMSE: 4, MAE: 4 }[name] ?? 2);
}

export function escaped(text) {
  const element = document.createElement("i");
  element.textContent = text;
  return element.innerHTML;
}

/** Rows of a definition list; values are plain text. */
export function definitions(pairs) {
  return pairs.map(([name, value]) => `<dt>${escaped(name)}</dt><dd>${escaped(String(value))}</dd>`).join("");
}
