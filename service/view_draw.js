// Drawing: outlines over the video, the response map, lines.

const OUTLINES = { // colour and dashes; the page says the status in words too
  locked: ["#2ee58a", []], uncertain: ["#ffc53d", [10, 5]], lost: ["#ff6b5e", [3, 5]], invalid: ["#ff8cff", [3, 5]],
  drawn: ["#ffffff", [5, 4]],
};
const HEAT = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

export const cornersOf = ([x, y, w, h]) => [[x, y], [x + w, y], [x + w, y + h], [x, y + h]];

// `outlines`: [kind, corners in shares of the picture], drawn at the screen's own resolution.
export function drawOutlines(canvas, outlines) {
  const scale = window.devicePixelRatio;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  for (const [kind, corners] of outlines) {
    const [colour, dashes] = OUTLINES[kind];
    const path = new Path2D();
    for (const [x, y] of corners) path.lineTo(x * width, y * height);
    path.closePath();
    for (const [stroke, line, dash] of [["rgb(0 0 0 / 60%)", 5, []], [colour, 2.5, dashes]]) {
      pen.strokeStyle = stroke;
      pen.lineWidth = line;
      pen.setLineDash(dash);
      pen.stroke(path);
    }
  }
}

// `values`: side x side bytes, row by row.
export function drawResponse(canvas, values, side) {
  if (!side) {
    canvas.width = canvas.width; // clears it
    return;
  }
  canvas.width = canvas.height = side;
  const pen = canvas.getContext("2d");
  const picture = pen.createImageData(side, side);
  values.forEach((value, index) => picture.data.set([...heat(value / 255), 255], 4 * index));
  pen.putImageData(picture, 0, 0);
}

function heat(share) {
  const at = Math.min(share, 0.999) * (HEAT.length - 1);
  const low = Math.floor(at);
  return HEAT[low].map((from, channel) => from + (at - low) * (HEAT[low + 1][channel] - from));
}

// A path over the chart's 300 x 100; values that are not finite leave gaps.
export function drawLine(path, values, top) {
  const step = 300 / Math.max(values.length - 1, 1);
  let [line, pen] = ["", "M"];
  values.forEach((value, index) => {
    if (Number.isFinite(value)) {
      line += `${pen}${(index * step).toFixed(1)} ${(100 - 100 * Math.min(value / top, 1)).toFixed(1)}`;
    }
    pen = Number.isFinite(value) ? "L" : "M";
  });
  path.setAttribute("d", line);
}

// The least of 1, 2, 5, 10, 20, ... that is not below a value.
export function roundedUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-3)));
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= value);
}
