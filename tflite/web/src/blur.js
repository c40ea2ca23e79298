/** Faces made unrecognisable in a photo, on this device. */

/** @import { Face } from "./faces.js" */

// Of the box on each side; and how many spots are left across a face, whatever its size.
const MARGIN = 0.3;
const SPOTS = 6;

/**
 * Draws a photo with its faces blurred: each is shrunk to a few spots, from which nobody is told, and
 * stretched again inside an ellipse around the box.
 *
 * @param {HTMLCanvasElement} canvas gets the photo's size
 * @param {ImageBitmap} photo
 * @param {Face[]} faces in pixels of the photo
 */
export function drawBlurred(canvas, photo, faces) {
  canvas.width = photo.width;
  canvas.height = photo.height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.drawImage(photo, 0, 0);
  for (const { box } of faces) {
    const [width, height] = [(box[2] - box[0]) * (1 + 2 * MARGIN), (box[3] - box[1]) * (1 + 2 * MARGIN)];
    const [left, top] = [(box[0] + box[2] - width) / 2, (box[1] + box[3] - height) / 2];
    context.save();
    context.beginPath();
    context.ellipse(left + width / 2, top + height / 2, width / 2, height / 2, 0, 0, 2 * Math.PI);
    context.clip();
    context.imageSmoothingQuality = "high";
    context.drawImage(spots(canvas, left, top, width, height), left, top, width, height);
    context.restore();
  }
}

/**
 * A part of a canvas as a few spots, halved step by step so that each is the mean of all its pixels.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {number} left
 * @param {number} top
 * @param {number} width
 * @param {number} height
 */
function spots(canvas, left, top, width, height) {
  let steps = Math.max(0, Math.ceil(Math.log2(Math.max(width, height) / SPOTS)));
  /** @type {OffscreenCanvas | HTMLCanvasElement} */
  let part = canvas;
  let from = [left, top, width, height];
  do {
    const side = SPOTS * 2 ** Math.max(0, --steps);
    const half = new OffscreenCanvas(side, side);
    const context = /** @type {OffscreenCanvasRenderingContext2D} */ (half.getContext("2d"));
    context.imageSmoothingQuality = "high";
    context.drawImage(part, from[0], from[1], from[2], from[3], 0, 0, side, side);
    [part, from] = [half, [0, 0, side, side]];
  } while (steps > 0);
  return part;
}

/**
 * Has the browser save a canvas as a file.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {string} name of the photo; a PNG stays one, all else becomes a JPEG
 */
export async function save(canvas, name) {
  const png = /\.png$/i.test(name);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, png ? "image/png" : "image/jpeg", 0.92));
  if (!blob) throw new Error(`${name} cannot be saved: this browser has no memory left for ${canvas.width} x ${canvas.height} pixels.`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${name.replace(/\.[^.]*$/, "") || "photo"}-blurred.${png ? "png" : "jpg"}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
