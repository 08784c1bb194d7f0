// What is shown. One object, changed through `change`, which tells whoever listens once per frame.

export const view = {
  series: 0,
  setting: 0,
  plane: "axial", // or "all"
  cursor: [0, 0, 0], // slice, row, column at full resolution
  panels: new Set(),
  image: "HR", // of which three planes are shown
  two: null, // or two images of which they are
  maximised: null, // number of the only pane shown
  fit: "body", // or "image": what fills a pane
  slab: "", // "max", "mean", "min" of several images of a plane
  slabMm: 10,
  corners: true, // patient, slice, window in the corners
  invert: false,
  loupe: false,
  classic: false, // the right button changes the window, the left one drags the point
  playing: false,
  difference: ["SR", "HR"],
  differenceRange: 100,
  differenceClip: false, // both images clipped to the range of the HU metrics
  beyond: false, // pixels that HU metrics clip are marked
  compare: null, // "wipe", "checker", "blink"
  pair: ["SR", "HR"],
  wipe: 0.5,
  flipped: false,
  center: 40,
  width: 400,
  smooth: false,
  crosshair: false,
  zoom: 1,
  pan: { axial: [0, 0], coronal: [0, 0], sagittal: [0, 0] }, // mm by which the middle is moved
  tool: "point",
  box: null, // {plane, top, left, rows, columns, shape?} in pixels at full resolution: the region that is measured
  regions: [], // others, with mean and SD on the image
  shapes: [], // {kind: "length" or "angle", plane, index, points: [[x, y], …] in mm}
  line: null, // {plane, from: [x, y], to: [x, y]} in mm
  hover: null, // {plane, x, y} in mm
  active: "axial", // of three planes, the one that keys and slider move
  lost: false, // the server does not answer
};

const listeners = [];
let pending = null;

export function onChange(listener) {
  listeners.push(listener);
}

/** While the server does not answer, nothing moves: what is seen stays what the page says it is. */
const FROZEN = ["series", "setting", "plane", "cursor"];

export function change(wanted) {
  const values = { ...wanted };
  if (values.lost ?? view.lost) for (const name of FROZEN) delete values[name];
  Object.assign(view, values);
  if (!pending) {
    pending = new Set();
    requestAnimationFrame(() => {
      const names = pending;
      pending = null;
      for (const listener of listeners) listener(names);
    });
  }
  for (const name of Object.keys(values)) pending.add(name);
}

/** What the server told at the start, and the geometry of the series that is open. */
export const known = { state: null, geometry: null, statistics: new Map() };

/** Under which `known.statistics` has those of a region in the slice in view. */
export function regionKey(region) {
  return [view.series, view.setting, region.plane, sliceIndex(region.plane), region.top, region.left, region.rows, region.columns, region.shape ?? ""].join("/");
}

/** Left, top, right and bottom in mm of what a pane is filled with. */
export function extent(plane) {
  const [across, down] = sizeMm(plane);
  if (view.fit !== "body") return [0, 0, across, down];
  const [left, top, right, bottom] = known.geometry.body[plane];
  const room = 0.03 * Math.max(right - left, bottom - top);
  return [Math.max(0, left - room), Math.max(0, top - room), Math.min(across, right + room), Math.min(down, bottom + room)];
}

export function planes() {
  return view.plane === "all" ? ["axial", "coronal", "sagittal"] : [view.plane];
}

/** The plane whose slices the keys and the slider go through. */
export function keyPlane() {
  return view.plane === "all" ? view.active : view.plane;
}

/** The index step of "onwards": towards the feet in axial slices, whichever way they are numbered. */
export function onwards(plane) {
  if (plane !== "axial") return 1;
  const slices = known.geometry.z_rows.filter((slice) => slice >= 0); // from the head
  return slices[0] > slices.at(-1) ? -1 : 1;
}

/** The plane that is measured. */
export function mainPlane() {
  return view.plane === "all" ? "axial" : view.plane;
}

const AXIS = { axial: 0, coronal: 1, sagittal: 2 };

export function sliceIndex(plane) {
  return view.cursor[AXIS[plane]];
}

/** The slice whose degradation is told where the view holds others, too: each may have a draw of its own. */
export function toldSlice() {
  return view.plane === "axial" && !view.slab ? "" : `axial slice ${sliceIndex("axial")}`;
}

export function moveTo(plane, index) {
  const last = known.geometry.planes[plane].count - 1;
  const cursor = [...view.cursor];
  cursor[AXIS[plane]] = Math.max(0, Math.min(last, Math.round(index)));
  change({ cursor });
}

/** Row and column of a plane's picture where the cursor is; the row is null where no row shows that slice. */
export function cursorIn(plane) {
  const [slice, row, column] = view.cursor;
  if (plane === "axial") return [row, column];
  const z = known.geometry.z_rows.indexOf(slice);
  return [z < 0 ? null : z, plane === "coronal" ? column : row];
}

/** Put the cursor on a pixel of a plane's picture. */
export function setCursor(plane, row, column) {
  const cursor = [...view.cursor];
  if (plane === "axial") [cursor[1], cursor[2]] = [row, column];
  else {
    const slice = known.geometry.z_rows[row];
    if (slice >= 0) cursor[0] = slice;
    cursor[plane === "coronal" ? 2 : 1] = column;
  }
  change({ cursor });
}

export function sizeMm(plane) {
  const { size, pixel } = known.geometry.planes[plane];
  return [size[1] * pixel[1], size[0] * pixel[0]];
}
