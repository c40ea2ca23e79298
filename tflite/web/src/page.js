/** The page: what people press, what they see. */

import { drawBlurred, save } from "./blur.js";
import { closeCamera, hasSeveralCameras, openCamera } from "./camera.js";
import { drawFaces } from "./drawing.js";
import { Engine } from "./engine.js";
import { ModelError } from "./errors.js";
import { readPicture } from "./picture.js";

/** @import { Face } from "./faces.js" */
/** @import { Found } from "./worker.js" */

// Faces from this score on are kept, so that the slider needs no new search.
const LEAST_SCORE = 0.1;
// A camera's faces are told to a screen reader, and listed, no oftener than this.
const TELL_EVERY_MS = 1500;

const engine = new Engine();

/** What is on the stage, if anything. */
const shown = {
  /** @type {Face[]} */
  faces: [],
  size: { width: 0, height: 0 },
  /** @type {ImageBitmap | null} the photo, to be searched again with another model */
  photo: null,
  name: "",
  /** @type {MediaStream | null} */
  stream: null,
  /** @type {"user" | "environment"} */
  facing: "user",
  frames: 0,
  told: 0,
};

/** Models by the name people choose. @type {Map<string, () => Promise<Uint8Array<ArrayBuffer>>>} */
const models = new Map();
let searching = Promise.resolve();
let modelName = "";

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
const element = (id) => /** @type {T} */ (document.getElementById(id));
const input = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (element(id));
const select = (/** @type {string} */ id) => /** @type {HTMLSelectElement} */ (element(id));
const canvas = (/** @type {string} */ id) => /** @type {HTMLCanvasElement} */ (element(id));
const video = () => /** @type {HTMLVideoElement} */ (element("video"));

/** @param {unknown} error */
function complain(error) {
  const known = error instanceof Error ? error : new Error(String(error));
  element("error").textContent = known.message;
  element("error").hidden = false;
}

/**
 * Runs what someone asked for; what goes wrong is written on the page.
 *
 * @param {() => Promise<void> | void} action
 */
async function attempt(action) {
  element("error").hidden = true;
  try {
    await action();
  } catch (error) {
    complain(error);
  }
}

// Models

async function listModels() {
  const response = await fetch("models/models.json");
  if (!response.ok) {
    throw new ModelError("This folder holds no models: run serve.py once to write them, or open a .tflite of your own.");
  }
  for (const { name, file } of await response.json()) {
    models.set(name, async () => {
      const answer = await fetch(`models/${file}`);
      if (!answer.ok) throw new ModelError(`The model ${file} is missing: run serve.py again to write it.`);
      return new Uint8Array(await answer.arrayBuffer());
    });
  }
  showModels();
}

function showModels() {
  select("model").replaceChildren(...Array.from(models.keys(), (name) => new Option(name)));
  select("model").value = modelName;
}

/** @param {string} name */
async function useModel(name) {
  const bytes = await /** @type {() => Promise<Uint8Array<ArrayBuffer>>} */ (models.get(name))();
  try {
    const { note, threads } = await engine.open(bytes, name);
    modelName = name;
    document.body.dataset.threads = String(threads);
    if (!shown.photo && !shown.stream) tell(`Ready: ${note.preset ?? "network"}, ${note.precision}.`);
  } finally {
    select("model").value = modelName;
  }
  if (shown.photo) await searchPhoto();
}

/** @param {File} file */
async function useOwnModel(file) {
  models.set(file.name, async () => new Uint8Array(await file.arrayBuffer()));
  try {
    await useModel(file.name);
  } catch (error) {
    models.delete(file.name);
    throw error;
  } finally {
    showModels();
  }
}

// Photos

/** @param {File} file */
async function usePhoto(file) {
  const bitmap = await readPicture(file);
  stopCamera();
  shown.photo?.close();
  shown.photo = bitmap;
  shown.name = file.name;
  show([], bitmap);
  await searchPhoto();
}

async function searchPhoto() {
  const { photo } = shown;
  if (!photo || !modelName) return;
  tell("Searching…");
  const begun = performance.now();
  const found = await engine.detect(await createImageBitmap(photo), longest(), LEAST_SCORE, input("closer").checked);
  if (shown.photo !== photo) return;
  showLatency(found, performance.now() - begun);
  show(found.faces, photo);
  tellFaces();
}

// Camera

async function useCamera() {
  const stream = await openCamera(shown.facing);
  stopCamera();
  shown.photo?.close();
  shown.photo = null;
  shown.stream = stream;
  shown.frames = 0;
  video().srcObject = stream;
  await video().play();
  const { facingMode } = stream.getVideoTracks()[0].getSettings();
  video().classList.toggle("mirrored", facingMode !== "environment");
  element("camera").textContent = "Stop the camera";
  element("turn").hidden = !(await hasSeveralCameras());
  stream.getVideoTracks()[0].onended = () => {
    stopCamera();
    complain("The camera has gone: connect it and try again, or choose a photo.");
  };
  searchFrames(stream).catch((error) => {
    stopCamera();
    complain(error);
  });
}

/**
 * One frame after the other, as quick as the network is.
 *
 * @param {MediaStream} stream
 */
async function searchFrames(stream) {
  let last = performance.now();
  let perFrame = 0;
  while (shown.stream === stream) {
    if (!modelName) throw new ModelError("There is no model yet: choose one, then start the camera again.");
    if (document.hidden || video().readyState < HTMLMediaElement.HAVE_CURRENT_DATA) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      continue;
    }
    const bitmap = await createImageBitmap(video());
    const size = { width: bitmap.width, height: bitmap.height };
    const found = await engine.detect(bitmap, longest(), LEAST_SCORE, input("closer").checked);
    if (shown.stream !== stream) return;
    const now = performance.now();
    perFrame = perFrame ? 0.9 * perFrame + 0.1 * (now - last) : now - last;
    last = now;
    shown.frames++;
    document.body.dataset.frames = String(shown.frames);
    show(found.faces, size);
    showLatency(found, perFrame, `${(1000 / perFrame).toFixed(1)} frames a second`);
    if (now - shown.told > TELL_EVERY_MS) tellFaces();
    await new Promise(requestAnimationFrame);
  }
}

function stopCamera() {
  if (!shown.stream) return;
  closeCamera(shown.stream);
  shown.stream = null;
  video().srcObject = null;
  element("camera").textContent = "Use the camera";
  element("turn").hidden = true;
  show([], { width: 0, height: 0 });
  element("latency").textContent = "";
  tell("The camera is off.");
}

// What is seen

const longest = () => Number(select("longest").value);
const visible = () => shown.faces.filter(({ score }) => score >= Number(input("threshold").value));

/**
 * @param {Face[]} faces
 * @param {{width: number, height: number}} size of the picture they are in
 */
function show(faces, size) {
  shown.faces = faces;
  shown.size = { width: size.width, height: size.height };
  element("video").hidden = !shown.stream;
  element("picture").hidden = !shown.photo;
  element("hint").hidden = Boolean(shown.stream || shown.photo);
  element("overlay").hidden = !element("hint").hidden;
  element("save").hidden = !shown.photo || !faces.length;
  element("mesh-label").hidden = !faces.some(({ vertices }) => vertices);
  draw();
}

function draw() {
  if (!shown.stream && !shown.photo) return;
  if (shown.photo) drawBlurred(canvas("picture"), shown.photo, input("blurred").checked ? visible() : []);
  drawFaces(canvas("overlay"), shown.size, visible(), {
    boxes: input("boxes").checked,
    points: input("points").checked,
    mesh: input("mesh").checked,
    mirrored: Boolean(shown.stream) && video().classList.contains("mirrored"),
  });
}

/** @param {string} text */
function tell(text) {
  if (element("summary").textContent !== text) element("summary").textContent = text;
}

function tellFaces() {
  if (!shown.stream && !shown.photo) return;
  const faces = visible();
  shown.told = performance.now();
  tell(faces.length === 1 ? "1 face found." : `${faces.length || "No"} faces found.`);
  element("faces").replaceChildren(
    ...faces.map(({ box, score }) => {
      const [x1, y1, x2, y2] = box.map(Math.round);
      const item = document.createElement("li");
      item.textContent = `score ${score.toFixed(3)}, ${x2 - x1} x ${y2 - y1} pixels at ${x1}, ${y1}`;
      return item;
    }),
  );
}

/**
 * @param {Found} found
 * @param {number} whole milliseconds from picture to faces
 * @param {string} [rate]
 */
function showLatency({ milliseconds, network: [height, width] }, whole, rate) {
  const parts = [
    `${whole.toFixed(0)} ms in all`,
    `network ${milliseconds.network.toFixed(0)} ms`,
    ...(milliseconds.preparing > 5 ? [`set up for this size ${milliseconds.preparing.toFixed(0)} ms`] : []),
    `searched at ${width} x ${height}`,
    ...(rate ? [rate] : []),
  ];
  element("latency").textContent = parts.join(" · ");
}

// What people do

/** One search after the other: a second choice waits for the first. @param {() => Promise<void>} action */
function queue(action) {
  searching = searching.then(() => attempt(action));
}

/** @param {File | undefined} file */
function take(file) {
  if (file) queue(() => (file.name.endsWith(".tflite") ? useOwnModel(file) : usePhoto(file)));
}

for (const id of ["photo", "own"]) {
  input(id).addEventListener("change", () => {
    take(input(id).files?.[0]);
    input(id).value = ""; // so that the same file can be chosen again
  });
}
element("camera").addEventListener("click", () => (shown.stream ? stopCamera() : queue(useCamera)));
element("turn").addEventListener("click", () => {
  shown.facing = shown.facing === "user" ? "environment" : "user";
  queue(useCamera);
});
select("model").addEventListener("change", () => {
  const { value } = select("model");
  queue(() => useModel(value));
});
for (const id of ["longest", "closer"]) element(id).addEventListener("change", () => queue(searchPhoto));
element("save").addEventListener("click", () =>
  queue(async () => {
    if (!shown.photo) return;
    const blurred = document.createElement("canvas");
    drawBlurred(blurred, shown.photo, visible());
    await save(blurred, shown.name);
  }),
);
for (const id of ["boxes", "points", "blurred", "mesh"]) input(id).addEventListener("input", draw);
input("threshold").addEventListener("input", () => {
  element("least").textContent = Number(input("threshold").value).toFixed(2);
  draw();
  if (!shown.stream) tellFaces();
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    element("stage").classList.toggle("over", name === "dragover");
    if (name === "drop") take(/** @type {DragEvent} */ (event).dataTransfer?.files[0]);
  });
}
document.addEventListener("paste", (event) => take(event.clipboardData?.files[0]));

queue(async () => {
  tell("Loading the model…");
  try {
    await listModels();
    await useModel([...models.keys()][0]);
  } catch (error) {
    tell("No model.");
    throw error;
  }
});

// For tests, and for anyone at the console: what is shown, WebAssembly's memory, the end of a search.
Object.assign(globalThis, { retinaface: { shown, memory: () => engine.memory(), idle: () => searching } });
