"use strict";
// Sends a photo to this server's REST interface and draws what comes back.

const COLORS = ["#e4572e", "#2e86e4", "#f2c14e", "#5bba6f", "#c44ee4"]; // the five points, in order
const element = (id) => document.getElementById(id);
// A server that wants a token is opened as http://HOST:PORT/#TOKEN; what is behind # stays in the browser.
const headers = location.hash ? { Authorization: `Bearer ${decodeURIComponent(location.hash.slice(1))}` } : {};
let model = null; // what /page/model says
let shown = null; // {image, faces, timings}

async function start() {
  try {
    const answer = await fetch("/page/model", { headers });
    if (!answer.ok) throw new Error((await answer.json()).error);
    model = await answer.json();
    const options = (model.note || {}).options || {};
    const size = options.size ? `frame ${options.size[0]}x${options.size[1]}` : "each photo at its own size";
    element("model").textContent = `${model.name}, version ${model.version}, ${size}`;
    element("threshold").value = options.threshold ?? 0.5;
    element("threshold").min = options.threshold ?? 0;
  } catch (error) {
    fail(`The server does not tell of its model: ${error.message}`);
  }
}

function fail(text) {
  element("error").textContent = text;
  element("error").hidden = false;
}

async function search(file) {
  element("error").hidden = true;
  const begun = performance.now();
  const data = new Uint8Array(await file.arrayBuffer());
  const body = JSON.stringify({ instances: [{ b64: toBase64(data) }] });
  const packed = performance.now();
  const response = await fetch(`/v1/models/${encodeURIComponent(model.name)}:predict`, { method: "POST", headers, body });
  const answer = await response.json();
  const answered = performance.now();
  if (!response.ok) throw new Error(answer.error);
  const found = answer.predictions[0];
  if (found.status === 1) throw new Error(`${file.name} cannot be decoded: is it a JPEG, PNG, BMP or GIF?`);
  if (found.status !== 0) throw new Error(`${file.name} has more pixels than the model takes.`);
  const image = await createImageBitmap(file, { imageOrientation: "from-image" });
  const faces = [];
  for (let i = 0; i < found.num_faces; i++) {
    faces.push({ box: found.boxes[i], score: found.scores[i], points: found.landmarks[i],
      vertices: found.vertices ? found.vertices[i] : null });
  }
  shown = { image, faces, truncated: found.truncated === 1, timings: { "read and pack here": packed - begun, "server and way": answered - packed } };
  draw();
  shown.timings["decode and draw here"] = performance.now() - answered;
  report();
}

function toBase64(data) {
  let text = "";
  for (let i = 0; i < data.length; i += 32768) text += String.fromCharCode(...data.subarray(i, i + 32768));
  return btoa(text);
}

function draw() {
  if (!shown) return;
  const { image, faces } = shown;
  const canvas = element("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const least = Number(element("threshold").value);
  element("threshold-value").textContent = least.toFixed(2);
  const visible = faces.filter((face) => face.score >= least);
  const unit = Math.max(1, Math.max(image.width, image.height) / 500);
  for (const face of visible) {
    const [x1, y1, x2, y2] = face.box;
    if (element("mesh").checked && face.vertices) {
      context.fillStyle = "#ffffffb0";
      for (const [x, y] of face.vertices) context.fillRect(x - unit / 4, y - unit / 4, unit / 2, unit / 2);
    }
    if (element("boxes").checked) {
      context.lineWidth = unit;
      context.strokeStyle = "#38e08b";
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
      if (x2 - x1 > 24 * unit) {
        context.font = `${8 * unit}px sans-serif`;
        const text = face.score.toFixed(2);
        const top = y1 > 11 * unit ? y1 - 11 * unit : y1;
        context.fillStyle = "#38e08b";
        context.fillRect(x1 - unit / 2, top, context.measureText(text).width + 4 * unit, 11 * unit);
        context.fillStyle = "#06331d";
        context.fillText(text, x1 + 2 * unit, top + 8.5 * unit);
      }
    }
    if (element("points").checked) {
      const radius = Math.max(unit, (x2 - x1) / 22);
      context.strokeStyle = "white";
      context.lineWidth = radius / 3;
      face.points.forEach(([x, y], i) => {
        context.fillStyle = COLORS[i];
        context.beginPath();
        context.arc(x, y, radius, 0, 2 * Math.PI);
        context.fill();
        context.stroke();
      });
    }
  }
  element("result").hidden = false;
  element("mesh-label").hidden = !faces.some((face) => face.vertices);
  element("summary").textContent =
    `${visible.length} face${visible.length === 1 ? "" : "s"} in ${image.width} x ${image.height} pixels` +
    (shown.truncated && visible.length === faces.length ? "; the model found more than it may answer" : "");
}

function report() {
  const body = element("timings").tBodies[0];
  body.replaceChildren();
  for (const [name, value] of Object.entries(shown.timings)) {
    const row = body.insertRow();
    row.insertCell().textContent = name;
    row.insertCell().textContent = `${value.toFixed(0)} ms`;
  }
  element("timings").hidden = false;
}

function take(files) {
  if (files && files.length && model) search(files[0]).catch((error) => fail(error.message));
}

const drop = element("drop");
element("file").addEventListener("change", (event) => take(event.target.files));
for (const name of ["boxes", "points", "mesh", "threshold"]) element(name).addEventListener("input", draw);
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files);
  });
}
start();
