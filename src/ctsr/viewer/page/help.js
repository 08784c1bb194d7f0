// The help sheet: every key and every way to use the mouse.

const GROUPS = {
  Slices: [
    ["wheel, arrows", "one slice; down is towards the feet"], ["PageUp PageDown", "ten slices"], ["Home End", "first, last slice"], ["g", "jump to an index"],
  ],
  Planes: [["a c s", "axial, coronal, sagittal"], ["v", "all three planes of one image; keys move the plane under the mouse"], ["h", "crosshair; click to set it"]],
  Images: [
    ["1 2 3 4 5", "LR, Bilinear, Bicubic, SR, HR"], ["d", "difference in HU"], ["x", "wipe between two images"],
    ["b", "blink between two images"], ["space", "flip by hand while blinking"], ["n", "smooth or plain pixels"], ["m", "mark pixels that HU metrics clip"],
  ],
  Window: [["right-drag", "across: width, down: centre"], ["w shift+w", "next, last preset"], ["r", "everything as at the start"]],
  Touch: [["one finger", "slices; a tap sets the point"], ["two fingers", "move and zoom"], ["double tap", "fit"]],
  Zoom: [["ctrl+wheel, + −", "zoom"], ["shift-drag, middle-drag", "move"], ["double click, 0", "fit"]],
  Tools: [
    ["q", "point: set the crosshair"], ["o", "ROI: metrics, mean and SD inside a rectangle"], ["l", "line profile through all images"],
    ["p", "save the view as PNG"], ["shift+p", "save the numbers as CSV"], ["Esc", "put a tool away"],
  ],
};

export function fillHelp(dialog) {
  const sheets = Object.entries(GROUPS).map(([name, rows]) => {
    const lines = rows.map(([keys, what]) => `<dt>${keys.split(", ").map(marked).join(", ")}</dt><dd>${what}</dd>`);
    return `<div><h2>${name}</h2><dl>${lines.join("")}</dl></div>`;
  });
  dialog.innerHTML = `<div class="columns">${sheets.join("")}</div>
    <p>LR is made from HR by the degradation on the right. Metrics compare with HR in the window that is shown, with the
    evaluation's own functions. Images are sent as whole HU by this computer to itself; nothing leaves it.
    Research only: not for diagnosis. <kbd>Esc</kbd> closes this sheet.</p>`;
}

function marked(words) {
  return words.includes("-drag") || words.includes("finger") || words === "double tap" || words === "wheel" || words === "double click"
    ? words
    : words.split(" ").map((word) => `<kbd>${word}</kbd>`).join(" ");
}
