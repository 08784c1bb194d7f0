// The help sheet: every key and every way to use the mouse.

const GROUPS = {
  Slices: [
    ["wheel, arrows", "one slice; down is towards the feet"], ["PageUp PageDown", "ten slices"], ["j", "play"], ["Home End", "first, last slice"], ["g", "jump to an index"],
  ],
  Planes: [["a c s", "axial, coronal, sagittal"], ["v", "all three planes of one image; keys move the plane under the mouse"], ["h", "crosshair; click to set it"]],
  Images: [
    ["k", "next layout; 2 × 2, three, all, 3 planes × 2"], ["double click", "one image alone, and back"], ["shift+1 … shift+5", "images one by one"],
    ["d", "difference in HU"], ["x", "wipe between two images"], ["shift+x", "checkerboard"], ["b", "blink between two images"],
    ["z", "loupe, ×4, over all images"], ["u", "slab: MIP, average, MinIP, none"], ["comma period", "slab thinner, thicker"], ["shift+i", "invert"], ["i", "text in the corners"], ["f", "whole screen"], ["space", "flip by hand while blinking"], ["n", "smooth or plain pixels"], ["m", "mark pixels that HU metrics clip"],
  ],
  Window: [["left-drag", "across: width, down: centre"], ["1 … 8", "presets, in the order of the list"], ["w shift+w", "next, last preset"], ["r", "everything as at the start"]],
  Touch: [["one finger", "slices; a tap sets the point"], ["two fingers", "move and zoom"], ["double tap", "one image alone"]],
  Zoom: [["right-drag, ctrl+wheel, + −", "zoom"], ["shift-drag, middle-drag", "move"], ["0", "fit the body, then the whole image"]],
  Tools: [
    ["click", "set the crosshair"], ["o e", "ROI: rectangle or ellipse, with metrics, mean and SD; corners and edges can be dragged"], ["t y", "length, angle"],
    ["l", "line profile through all images"], ["Enter", "ROI or profile in the middle"], ["alt+arrows", "move the ROI or the wipe; with shift, size the ROI"], ["Delete", "remove the ROI or what was drawn last"],
    ["p", "save the view as PNG"], ["shift+p", "save the numbers as CSV"], ["Esc", "put a tool away"],
  ],
};

export function fillHelp(dialog) {
  const sheets = Object.entries(GROUPS).map(([name, rows]) => {
    const lines = rows.map(([keys, what]) => `<dt>${keys.split(", ").map(marked).join(", ")}</dt><dd>${what}</dd>`);
    return `<div><h2>${name}</h2><dl>${lines.join("")}</dl></div>`;
  });
  dialog.innerHTML = `<div class="columns">${sheets.join("")}</div>
    <p><label><input id="classic" type="checkbox"> The right button changes the window, the left one drags the point</label></p>
    <p>LR is made from HR by the degradation on the right. Metrics compare with HR in the window that is shown, with the
    evaluation's own functions. Images are sent as whole HU by this computer to itself; nothing leaves it.
    Research only: not for diagnosis. <kbd>Esc</kbd> closes this sheet.</p>`;
}

function marked(words) {
  return words.includes("-drag") || words.includes("finger") || /^(double tap|wheel|double click|click)$/.test(words)
    ? words
    : words.split(" ").map((word) => `<kbd>${word}</kbd>`).join(" ");
}
