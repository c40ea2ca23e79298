/** Boxes, points and meshes on a canvas. */

/** @import { Face } from "./faces.js" */

// The image's left eye, right eye, nose, left and right mouth corner.
const POINT_COLORS = ["#ff7043", "#42a5f5", "#ffd54f", "#66bb6a", "#ba68c8"];
const BOX = "#38e08b";
const BOX_TEXT = "#06331d";

/**
 * @typedef {object} Layers
 * @property {boolean} boxes
 * @property {boolean} points
 * @property {boolean} mesh
 * @property {boolean} mirrored the picture is shown as in a mirror
 */

/**
 * Draws faces in pixels of a picture onto a transparent canvas of the picture's size.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {{width: number, height: number}} size
 * @param {Face[]} faces
 * @param {Layers} layers
 */
export function drawFaces(canvas, { width, height }, faces, layers) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.clearRect(0, 0, width, height);
  // Lines are as thick on the screen whatever the picture's size.
  const unit = Math.max(1, width / (canvas.clientWidth || width));
  const seen = (/** @type {number} */ x) => (layers.mirrored ? width - x : x);
  for (const face of faces) {
    if (layers.mesh && face.vertices) {
      context.fillStyle = "#ffffffb0";
      const dot = Math.min(unit, (face.box[2] - face.box[0]) / 150); // small faces are not painted over
      for (const [x, y] of face.vertices) context.fillRect(seen(x) - dot / 2, y - dot / 2, dot, dot);
    }
    if (layers.boxes) drawBox(context, face, unit, seen);
    if (layers.points) {
      const radius = Math.max(2.5 * unit, (face.box[2] - face.box[0]) / 40);
      context.strokeStyle = "#000000a0";
      context.lineWidth = unit;
      face.landmarks.forEach(([x, y], i) => {
        context.fillStyle = POINT_COLORS[i];
        context.beginPath();
        context.arc(seen(x), y, radius, 0, 2 * Math.PI);
        context.fill();
        context.stroke();
      });
    }
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Face} face
 * @param {number} unit
 * @param {(x: number) => number} seen
 */
function drawBox(context, { box: [x1, y1, x2, y2], score }, unit, seen) {
  const left = Math.min(seen(x1), seen(x2));
  context.lineWidth = 2 * unit;
  context.strokeStyle = BOX;
  context.strokeRect(left, y1, x2 - x1, y2 - y1);
  if (x2 - x1 < 40 * unit) return;
  const text = score.toFixed(2);
  context.font = `600 ${12 * unit}px system-ui, sans-serif`;
  const top = y1 > 18 * unit ? y1 - 18 * unit : y1;
  context.fillStyle = BOX;
  context.fillRect(left - unit, top, context.measureText(text).width + 8 * unit, 18 * unit);
  context.fillStyle = BOX_TEXT;
  context.fillText(text, left + 3 * unit, top + 13 * unit);
}
