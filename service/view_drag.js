// A box drawn over the video by mouse, finger or keyboard, in shares of the picture's sides.

const LEAST = 4; // CSS pixels a side; less is a click
const STEP = 0.01;
const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

const clip = (value, low, high) => Math.max(low, Math.min(value, high));

// Calls `changed(box or null)` while a box is drawn, `taken(box)` at its end. `suggested()`: what the keyboard begins with.
export function followDrags(canvas, suggested, changed, taken) {
  let start = null;
  let box = null;

  const point = event => {
    const area = canvas.getBoundingClientRect();
    return [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height].map(v => clip(v, 0, 1));
  };
  const show = drawn => changed(box = drawn);
  const cancel = () => {
    start = null;
    show(null);
  };
  const take = () => {
    const done = box;
    cancel();
    if (done && done[2] * canvas.clientWidth >= LEAST && done[3] * canvas.clientHeight >= LEAST) taken(done);
  };

  canvas.addEventListener("pointerdown", event => {
    if (!event.isPrimary || event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    start = point(event);
  });
  canvas.addEventListener("pointermove", event => {
    if (!start || !event.isPrimary) return;
    const [[x0, y0], [x1, y1]] = [start, point(event)];
    show([Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0)]);
  });
  canvas.addEventListener("pointerup", event => start && event.isPrimary && take());
  canvas.addEventListener("pointercancel", cancel);
  canvas.addEventListener("keydown", event => {
    if (event.key === "Escape") {
      cancel();
    } else if (event.key === "Enter") {
      if (box) take();
      else show(suggested());
    } else if (event.key in ARROWS && box) {
      const [dx, dy] = ARROWS[event.key];
      const [x, y, w, h] = box;
      show(event.shiftKey ? [x, y, clip(w + dx, STEP, 1 - x), clip(h + dy, STEP, 1 - y)]
        : [clip(x + dx, 0, 1 - w), clip(y + dy, 0, 1 - h), w, h]);
    } else {
      return;
    }
    event.preventDefault();
  });
}
