"""JavaScript that reads what is drawn on the viewer's page."""

from __future__ import annotations

# A copy to read from: reading back from the page's own canvases would slow them down.
COPY = """const copied = id => {
  const {width, height} = document.getElementById(id);
  const pen = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
  pen.drawImage(document.getElementById(id), 0, 0);
  return [width, height, pen];
};"""
# The bounds of what is drawn in a colour over the video, in shares of its sides; null where there is nothing.
DRAWN = f"""([r, g, b]) => {{ {COPY}
  const [width, height, pen] = copied('overlay');
  const {{data}} = pen.getImageData(0, 0, width, height);
  const alike = at => data[at + 3] > 250 && [r, g, b].every((v, channel) => Math.abs(data[at + channel] - v) < 5);
  let [x0, y0, x1, y1] = [width, height, 0, 0];
  for (let at = 0; at < data.length; at += 4) if (alike(at)) {{
    const [x, y] = [at / 4 % width, Math.floor(at / 4 / width)];
    [x0, y0, x1, y1] = [Math.min(x0, x), Math.min(y0, y), Math.max(x1, x + 1), Math.max(y1, y + 1)];
  }}
  return x1 ? [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height] : null;
}}"""
# How opaque what is drawn over the video is at a place, in shares of its sides.
OPACITY = f"""([x, y]) => {{ {COPY}
  const [width, height, pen] = copied('overlay');
  return pen.getImageData(x * width, y * height, 1, 1).data[3];
}}"""
# A canvas' size, and its pixels at 13 x 13 places, row by row: red, green, blue, opacity.
PIXELS = f"""id => {{ {COPY}
  const [width, height, pen] = copied(id);
  const places = side => [...Array(13).keys()].map(index => Math.floor(index * side / 13));
  return [width, height, places(height).map(y => places(width).map(x => [...pen.getImageData(x, y, 1, 1).data]))];
}}"""
# What becomes of a page's attempt to connect to an address.
CONNECT = """url => new Promise(done => {
  const socket = new WebSocket(url);
  socket.onopen = () => done('open');
  socket.onerror = () => done('refused');
})"""
# Makes the page believe that it cannot be seen, or that it can.
HIDDEN = """hidden => {
  Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});
  document.dispatchEvent(new Event('visibilitychange'));
}"""
