/** The network's outputs read as faces (retinaface_tf/inference/postprocess.py in JavaScript). */

import { ModelError } from "./errors.js";
import { suppress } from "./suppression.js";

/** @import { DenseHead } from "./dense.js" */
/** @import { Metadata } from "./metadata.js" */

/**
 * A face in pixels of the original picture.
 *
 * @typedef {object} Face
 * @property {number[]} box x1, y1, x2, y2, inside the picture
 * @property {number} score 0..1
 * @property {number[][]} landmarks five x, y: the image's left eye, right eye, nose, left and right
 *   mouth corner
 * @property {number[][]} [vertices] x, y, z of a mesh, where the model has one
 */

/**
 * @typedef {object} Outputs
 * @property {ArrayLike<number>} scores [N] 0..1
 * @property {ArrayLike<number>} box_deltas [N * 4] deltas x, y, w, h
 * @property {ArrayLike<number>} landmark_deltas [N * 10] deltas of five x, y pairs
 * @property {Float32Array[]} [features] maps of a dense branch, fine to coarse
 */

/**
 * How a picture lies in the network's input. Sizes are [height, width] in pixels.
 *
 * @typedef {object} Placement
 * @property {number[]} network the input, padding included
 * @property {number[]} content the scaled picture, in the upper left
 * @property {number[]} original the picture as it was read
 * @property {number[]} scale x and y, from original to content
 */

/**
 * The faces of a picture, best first.
 *
 * @param {Outputs} outputs
 * @param {Placement} placement
 * @param {Metadata} note
 * @param {{threshold?: number, iou?: number, maxFaces?: number | null}} [settings] the note's own
 *   and no limit where nothing is said
 * @param {DenseHead | null} [dense] what makes vertices of the features
 * @returns {Face[]}
 * @throws {ModelError} scores that are not numbers, or of another number of anchors
 */
export function readFaces(outputs, placement, note, settings = {}, dense = null) {
  const { threshold = note.threshold, iou = note.iou, maxFaces = null } = settings;
  const { network, content, original, scale } = placement;
  const candidates = decode(outputs, network, content, note, threshold);
  // Depth has no scale of its own: the mean of the two, which differ by rounding alone.
  const scales = [...scale, (scale[0] + scale[1]) / 2];
  const toOriginal = (/** @type {number[]} */ point) => point.map((value, axis) => value / scales[axis]);
  return suppress(candidates, iou, maxFaces).map(({ box, score, index, anchor, slot }) => {
    const landmarks = decodePoints(outputs.landmark_deltas, index, anchor, note.variances.center);
    const [x1, y1, x2, y2] = box;
    return {
      box: clip([...toOriginal([x1, y1]), ...toOriginal([x2, y2])], original),
      score,
      landmarks: landmarks.map(toOriginal),
      ...(dense && outputs.features
        ? { vertices: dense.vertices({ box, landmarks, anchor, slot }, outputs.features, network).map(toOriginal) }
        : {}),
    };
  });
}

/** @typedef {{x: number, y: number, size: number}} Anchor centre and side in network pixels */

/**
 * Boxes at or above the threshold in pixels of the network's input, in the outputs' order: level,
 * row, column, size.
 *
 * @param {Outputs} outputs
 * @param {number[]} network
 * @param {number[]} content boxes are clipped to it, and dropped when nothing is left
 * @param {Metadata} note
 * @param {number} threshold
 */
function decode(outputs, [height, width], content, note, threshold) {
  const { scores, box_deltas: deltas } = outputs;
  const { center, size: growth } = note.variances;
  const least = Math.fround(threshold); // scores are float32
  const found = [];
  let index = 0;
  let firstSlot = 0;
  for (const { stride, sizes } of note.anchors.levels) {
    const rows = Math.ceil(height / stride);
    const columns = Math.ceil(width / stride);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        for (const [kind, size] of sizes.entries()) {
          const score = scores[index];
          if (Number.isNaN(score)) {
            throw new ModelError("The model's scores are not numbers: its weights are damaged; export it again.");
          }
          if (score >= least) {
            const anchor = { x: (column + 0.5) * stride, y: (row + 0.5) * stride, size };
            const i = 4 * index;
            const x = anchor.x + deltas[i] * center * size;
            const y = anchor.y + deltas[i + 1] * center * size;
            const halfWidth = (size * Math.exp(deltas[i + 2] * growth)) / 2;
            const halfHeight = (size * Math.exp(deltas[i + 3] * growth)) / 2;
            const corners = [x - halfWidth, y - halfHeight, x + halfWidth, y + halfHeight];
            const box = clip(corners.map(Math.fround), content);
            if (box[2] > box[0] && box[3] > box[1]) {
              found.push({ box, score, index, anchor, slot: firstSlot + kind });
            }
          }
          index++;
        }
      }
    }
    firstSlot += sizes.length;
  }
  if (index !== scores.length) {
    throw new ModelError(`The model answers for ${scores.length} anchors and its note describes ${index}; export it again.`);
  }
  return found;
}

/**
 * @param {ArrayLike<number>} deltas
 * @param {number} index of the anchor
 * @param {Anchor} anchor
 * @param {number} variance
 */
function decodePoints(deltas, index, { x, y, size }, variance) {
  return Array.from({ length: 5 }, (_, point) => {
    const i = 10 * index + 2 * point;
    return [x + deltas[i] * variance * size, y + deltas[i + 1] * variance * size];
  });
}

/**
 * @param {number[]} box
 * @param {number[]} size height and width
 */
function clip([x1, y1, x2, y2], [height, width]) {
  const x = (/** @type {number} */ value) => Math.min(Math.max(value, 0), width);
  const y = (/** @type {number} */ value) => Math.min(Math.max(value, 0), height);
  return [x(x1), y(y1), x(x2), y(y2)];
}
