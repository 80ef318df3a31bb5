"use strict";
const $ = (id) => document.getElementById(id);
const LEAST = 0.05; // lowest score that is fetched; the slider then works without the service
const STAGES = { decode: "decoding", queue: "queue", network: "network", rest: "transfer and the rest" };
const state = { info: null, token: "", source: null, name: "", rows: [], hidden: new Set(), stream: null, turn: 0 };

function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

async function ask(path, options = {}) {
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The service does not answer. Is it still running?");
  }
  if (response.ok) return response;
  let text = `status ${response.status}`;
  try { text = (await response.json()).error.message; } catch { /* the status says enough */ }
  if (response.status === 401) {
    $("token-form").hidden = false;
    $("token").focus();
  }
  throw new Error(text);
}

async function start() {
  try {
    state.info = await (await ask("/v1/info")).json();
  } catch (error) {
    say(error.message);
    return;
  }
  say("");
  $("token-form").hidden = true;
  const { name, classes, has_masks, runtime, version, limits } = state.info;
  document.title = `${name}: try the detector`;
  $("name").textContent = name;
  const count = `${classes.length} ${classes.length === 1 ? "class" : "classes"}`;
  $("facts").textContent = `${count}${has_masks ? ", masks" : ""} · ${runtime} · ppdet ${version}`;
  $("accepted").textContent = `JPEG, PNG, WebP or BMP, up to ${+(limits.body_bytes / 1e6).toFixed(1)} MB and ` +
    `${+(limits.pixels / 1e6).toFixed(1)} megapixels. Nothing is stored.`;
  $("masks-label").hidden = !has_masks;
}

async function detect(blob, name) {
  const form = new FormData();
  form.append("images", blob, name);
  const before = performance.now();
  const response = await ask(`/v1/detect?threshold=${LEAST}`, { method: "POST", body: form });
  const [row] = await response.json();
  const total = performance.now() - before;
  const stages = {};
  for (const part of (response.headers.get("Server-Timing") || "").split(", ")) {
    const [stage, duration] = part.split(";dur=");
    if (duration) stages[stage] = +duration;
  }
  stages.rest = Math.max(0, total - Object.values(stages).reduce((sum, one) => sum + one, 0));
  for (const object of row.objects) object.colour = state.info.classes[object.label].colour;
  return { objects: row.objects, total, stages };
}

async function showFile(file) {
  if (!file || !state.info) return;
  stopWebcam();
  const turn = ++state.turn;
  say("");
  if (file.size > state.info.limits.body_bytes) {
    say(`${file.name} has ${(file.size / 1e6).toFixed(1)} MB; at most ` +
      `${(state.info.limits.body_bytes / 1e6).toFixed(1)} MB are accepted.`);
    return;
  }
  $("busy").hidden = false;
  try {
    const found = await detect(file, file.name || "pasted"); // first: its message says more than the browser's
    const picture = await createImageBitmap(file).catch(() => {
      throw new Error(`${file.name || "The file"} is no image that this browser shows.`);
    });
    if (turn !== state.turn) return; // another one was chosen meanwhile
    show(picture, file.name || "pasted", found);
  } catch (error) {
    if (turn === state.turn) say(error.message);
  } finally {
    if (turn === state.turn) $("busy").hidden = true;
  }
}

function show(picture, name, found) {
  state.source = picture;
  state.name = name;
  state.rows = found.objects;
  for (const id of ["canvas", "bar"]) $(id).hidden = false;
  $("empty").hidden = true;
  listClasses();
  draw();
  showLatency(found);
}

const least = () => +$("threshold").value;
const visible = () => state.rows.filter((one) => one.score >= least() && !state.hidden.has(one.label));

function draw() {
  if (!state.source) return;
  const canvas = $("canvas"), context = canvas.getContext("2d");
  const { width, height } = state.source;
  canvas.width = width;
  canvas.height = height;
  context.drawImage(state.source, 0, 0);
  const shown = visible().reverse(); // the surest last, on top
  if ($("masks").checked) {
    const step = Math.max(1, Math.floor(Math.max(width, height) / 1600));
    context.globalAlpha = 0.45;
    for (const one of shown) {
      if (!one.mask) continue;
      one.drawn ||= maskCanvas(one.mask, one.colour, step);
      context.drawImage(one.drawn, 0, 0, one.drawn.width * step, one.drawn.height * step);
    }
    context.globalAlpha = 1;
  }
  // As thick on the screen for an image of any size.
  const unit = Math.max(width / Math.max(320, Math.min(canvas.parentElement.clientWidth, width)), 0.5);
  context.lineWidth = 2.5 * unit;
  context.lineJoin = "round";
  context.font = `600 ${13 * unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  if ($("boxes").checked) for (const one of shown) {
    const [x1, y1, x2, y2] = one.box;
    context.strokeStyle = one.colour;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  if ($("labels").checked) for (const one of shown) drawLabel(context, one, unit, width);
  const names = [...new Set(visible().map((one) => one.name))];
  canvas.setAttribute("aria-label", `${state.name} with ${shown.length} detections: ${names.join(", ") || "none"}`);
}

function drawLabel(context, one, unit, width) {
  const text = `${one.name} ${one.score.toFixed(2)}`;
  const plate = context.measureText(text).width + 10 * unit, height = 20 * unit;
  const x = Math.min(Math.max(0, one.box[0] - context.lineWidth / 2), Math.max(0, width - plate));
  const y = one.box[1] >= height ? one.box[1] - height : Math.max(0, one.box[1]);
  context.fillStyle = one.colour;
  context.fillRect(x, y, plate, height);
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(one.colour.slice(at, at + 2), 16));
  context.fillStyle = 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#000" : "#fff";
  context.fillText(text, x + 5 * unit, y + height / 2 + unit / 2);
}

function listClasses() {
  const counts = new Map();
  for (const one of state.rows) {
    if (one.score >= least()) counts.set(one.label, (counts.get(one.label) || 0) + 1);
  }
  const list = $("classes");
  const focused = document.activeElement?.dataset?.label;
  list.replaceChildren();
  for (const [label, count] of [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0])) {
    const { name, colour } = state.info.classes[label];
    const item = document.createElement("li"), row = document.createElement("label");
    const box = document.createElement("input"), swatch = document.createElement("i");
    const text = document.createElement("span"), number = document.createElement("b");
    Object.assign(box, { type: "checkbox", checked: !state.hidden.has(label) });
    box.dataset.label = label;
    box.addEventListener("change", () => toggle([label], box.checked));
    swatch.style.setProperty("background", colour);
    text.textContent = name;
    number.textContent = count;
    row.append(box, swatch, text, number);
    item.append(row);
    list.append(item);
    if (focused === String(label)) box.focus();
  }
  const total = [...counts.values()].reduce((sum, one) => sum + one, 0);
  $("total").textContent = state.source ? `${total} of ${state.rows.length}` : "";
  $("none").hidden = total > 0;
  if (state.source) $("none").textContent = "No object of this score. Move the threshold to the left.";
  document.querySelector(".tools").hidden = counts.size < 2;
}

function toggle(labels, shown) {
  for (const label of labels) shown ? state.hidden.delete(label) : state.hidden.add(label);
  listClasses();
  draw();
}

function showLatency({ total, stages }) {
  $("latency").textContent = `${Math.round(total)} ms`;
  const split = $("split"), list = $("stages");
  split.replaceChildren();
  list.replaceChildren();
  for (const [stage, text] of Object.entries(STAGES)) {
    const milliseconds = stages[stage] || 0;
    const bar = document.createElement("i"), item = document.createElement("li");
    bar.className = item.className = stage;
    bar.style.setProperty("flex-grow", Math.max(milliseconds, total / 200));
    const value = document.createElement("b");
    value.textContent = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
    item.append(text, value);
    split.append(bar);
    list.append(item);
  }
}

async function startWebcam() {
  if (!state.info || state.stream) return;
  say("");
  if (!navigator.mediaDevices) {
    say("Browsers allow the webcam on pages of this machine (localhost) or over HTTPS only.");
    return;
  }
  try {
    state.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    say(`The webcam cannot be used: ${error.message}`);
    return;
  }
  const video = $("video");
  video.srcObject = state.stream;
  await video.play();
  $("stop").hidden = false;
  $("webcam-again").hidden = true;
  const turn = ++state.turn;
  while (turn === state.turn) {
    const frame = document.createElement("canvas");
    frame.width = video.videoWidth;
    frame.height = video.videoHeight;
    frame.getContext("2d").drawImage(video, 0, 0);
    try {
      const blob = await new Promise((done) => frame.toBlob(done, "image/jpeg", 0.9));
      const found = await detect(blob, "webcam.jpg");
      if (turn !== state.turn) return;
      say("");
      show(frame, "webcam.jpg", found);
    } catch (error) {
      if (turn !== state.turn) return;
      say(error.message);
      await new Promise((done) => setTimeout(done, 1000));
    }
  }
}

function stopWebcam() {
  if (!state.stream) return;
  state.turn++;
  for (const track of state.stream.getTracks()) track.stop();
  state.stream = null;
  $("stop").hidden = true;
  $("webcam-again").hidden = false;
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const stem = () => state.name.replace(/\.\w+$/, "");
$("file").addEventListener("change", (event) => { showFile(event.target.files[0]); event.target.value = ""; });
$("webcam").addEventListener("click", startWebcam);
$("webcam-again").addEventListener("click", startWebcam);
$("stop").addEventListener("click", stopWebcam);
$("save").addEventListener("click", () => $("canvas").toBlob((blob) => save(blob, `${stem()}-detections.png`)));
$("json").addEventListener("click", () => {
  const objects = visible().map(({ colour, drawn, ...one }) => one);
  const rows = [{ image: state.name, drawn: "", objects }];
  save(new Blob([JSON.stringify(rows, null, 1)], { type: "application/json" }), `${stem()}-detections.json`);
});
$("threshold").addEventListener("input", () => {
  $("threshold-value").textContent = least().toFixed(2);
  listClasses();
  draw();
});
for (const id of ["boxes", "labels", "masks"]) $(id).addEventListener("change", draw);
const labels = () => [...new Set(state.rows.map((one) => one.label))];
$("all-classes").addEventListener("click", () => toggle(labels(), true));
$("no-classes").addEventListener("click", () => toggle(labels(), false));
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = $("token").value.trim();
  start();
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") showFile(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) showFile(event.clipboardData.files[0]);
});
addEventListener("resize", draw);
document.querySelector(".tools").hidden = true;
start();
