// The page: asks for one picture after the other, shows it, and passes boxes and the stop button on.
import { cornersOf, drawLine, drawOutlines, drawResponse, roundedUp } from "./view_draw.js";
import { followDrags } from "./view_drag.js";

const AGAIN_MS = 1000; // between attempts to reach the service
const PATIENCE_MS = 5000; // it answers within 1 s, picture or not
const at = id => document.getElementById(id);
const overlay = at("overlay");
let socket = null;
let silence = 0; // timer
let target = null; // status, box and corners in shares
let drawn = null; // box under the pointer

function connect() {
  clearTimeout(silence);
  if (document.hidden) return;
  const url = new URL("socket", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const opened = socket = new WebSocket(url);
  opened.binaryType = "arraybuffer";
  opened.onopen = () => ask(opened);
  opened.onmessage = async event => {
    clearTimeout(silence);
    try {
      await show(parse(event.data));
    } finally {
      ask(opened);
    }
  };
  opened.onclose = event => {
    if (opened !== socket) return;
    say("link", document.hidden ? "paused" : event.reason || "no connection", !document.hidden);
    clearTimeout(silence);
    silence = setTimeout(connect, AGAIN_MS);
  };
}

function ask(opened) {
  if (opened.readyState !== WebSocket.OPEN) return;
  opened.send("next");
  silence = setTimeout(() => opened.close(), PATIENCE_MS);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) socket?.close();
  else if (!socket || socket.readyState >= WebSocket.CLOSING) connect();
});

// A message: length of the text, text (JSON), history (rows of two floats), response (bytes), JPEG.
function parse(message) {
  const length = new DataView(message).getUint32(0, true);
  const text = JSON.parse(new TextDecoder().decode(new Uint8Array(message, 4, length)));
  const history = 4 + length;
  const response = history + 8 * text.history;
  const picture = response + text.response ** 2;
  return {
    ...text, history: new Float32Array(message.slice(history, response)), side: text.response,
    response: new Uint8Array(message, response, picture - response), picture: new Uint8Array(message, picture),
  };
}

async function show(news) {
  const { update } = news;
  say("link", news.picture.length ? "connected" : "no frames", !news.picture.length);
  say("what", `${news.model} on ${news.backend}, ${news.source}`);
  if (news.picture.length) await showPicture(news.picture);
  if (update) showTarget(update);
  if (news.picture.length) showResponse(news);
  showHistory(news.history);
  at("stages").replaceChildren(...news.stages.map(([name, ...values]) => row(name, values)));
  at("counts").replaceChildren(...news.counts.map(([name, value]) => pair(name, value)));
  at("faults").replaceChildren(...news.faults.map(fault));
}

async function showPicture(bytes) {
  const picture = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
  const canvas = at("frame");
  if (canvas.width !== picture.width) canvas.width = picture.width;
  if (canvas.height !== picture.height) canvas.height = picture.height;
  canvas.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
}

function showTarget({ status, box_xywh: box, polygon_xy: corners, size, score, latency_ms: latency, frame }) {
  const shares = sides => sides.map((side, index) => side / size[index % 2]);
  target = box && { status, box: shares(box), corners: (corners || cornersOf(box)).map(shares) };
  at("status").className = `mark ${status}`;
  say("status", status);
  const [x, y, w, h] = (box || []).map(Math.round);
  say("box", box ? `${x}, ${y}, ${w} x ${h} px of ${size.join(" x ")}` : `no target in ${size.join(" x ")} px`);
  say("score", score === null ? "-" : score.toFixed(2));
  say("latency", `${latency.toFixed(1)} ms`);
  overlay.dataset.frame = frame;
  draw();
}

function draw() {
  const outlines = target ? [[target.status, target.corners]] : [];
  drawOutlines(overlay, drawn ? [...outlines, ["drawn", cornersOf(drawn)]] : outlines);
}

function showResponse({ response, side }) {
  drawResponse(at("response"), response, side);
  const peak = Math.max(0, ...response);
  const place = response.indexOf(peak);
  say("peak", side ? (peak / 255).toFixed(2) : "-");
  say("where", side ? `peak in column ${place % side + 1}, row ${Math.floor(place / side) + 1} of ${side}` : "none");
}

function showHistory(history) {
  const [scores, latencies] = [0, 1].map(column => history.filter((_, index) => index % 2 === column));
  drawLine(at("score-chart").querySelector(".line"), scores, 1);
  say("span", scores.length);
  const sorted = [...latencies].sort((a, b) => a - b);
  const share = part => sorted[Math.round(part * (sorted.length - 1))] ?? 0;
  const top = roundedUp(1.2 * share(0.99)); // one frame in a hundred may stand out of it
  const chart = at("latency-chart");
  for (const [name, values] of [["line", [...latencies]], ["half", flat(share(0.5))], ["worst", flat(share(0.99))]]) {
    drawLine(chart.querySelector(`.${name}`), values, top);
  }
  say("top", top);
}

const flat = value => [value, value];

function row(name, values) {
  const line = element("tr", "");
  const head = element("th", name);
  head.scope = "row";
  line.append(head, ...values.map(value => element("td", value === null ? "-" : value.toFixed(2))));
  return line;
}

function pair(name, value) {
  const both = element("div", "");
  both.append(element("dt", name), element("dd", value));
  return both;
}

function fault({ kind, count, detail, age_s: age }) {
  return element("li", `${kind} x ${count}, ${Math.round(age)} s ago: ${detail}`);
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function say(id, text, broken = false) {
  const place = at(id);
  if (place.textContent !== String(text)) place.textContent = text; // screen readers hear of changes alone
  if (id === "link") {
    place.classList.toggle("broken", broken);
    document.body.classList.toggle("broken", broken);
  }
}

async function control(command) {
  try {
    const answer = await fetch(new URL("../control", location.href), {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(command),
    });
    const { error, received, expected } = await answer.json();
    say("answer", answer.ok ? "" : `${error}: received ${received}; expected ${expected}`);
  } catch (error) {
    say("answer", `the service did not answer: ${error.message}`);
  }
}

followDrags(
  overlay,
  () => target?.box ?? [0.4, 0.4, 0.2, 0.2],
  box => {
    drawn = box;
    draw();
  },
  box => control({ command: "start", box, unit: "share" }),
);
at("stop").addEventListener("click", () => control({ command: "stop" }));
new ResizeObserver(draw).observe(overlay);
connect();
