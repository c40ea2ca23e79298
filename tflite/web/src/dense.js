/**
 * Vertices of found faces, from feature maps (retinaface_tf/layers/dense_frames.py). Its weights lie in
 * the .tflite as a block of their own (retinaface_tf/modelfile/dense_block.py).
 */

import { ModelError } from "./errors.js";
import { readNpz } from "./npz.js";
import { posedShape } from "./posed-shape.js";

/** @import { Anchor } from "./faces.js" */
/** @import { Metadata } from "./metadata.js" */
/** @import { NumpyArray } from "./npz.js" */

/**
 * @typedef {object} DenseConfig see `DenseConfig` in retinaface_tf/config.py
 * @property {number} vertices
 * @property {"anchor" | "face"} frame
 * @property {number} grid
 * @property {number} extent
 * @property {number} finer
 * @property {number} reduced
 * @property {number[]} hidden
 */

/**
 * A face in pixels of the network's input.
 *
 * @typedef {object} Detection
 * @property {number[]} box
 * @property {number[][]} landmarks
 * @property {Anchor} anchor
 * @property {number} slot number of the anchor's level and size, in the order of the note
 */

/**
 * The square in which vertices are coded: centre, side, and cosine and sine of its turn.
 *
 * @typedef {{x: number, y: number, size: number, cosine: number, sine: number}} Frame
 */

const START = "retinaface_tf_dense_npz:";
const DIGITS = 10;

// Where the five points of an upright face lie about their centre.
const UPRIGHT = [[-17.9, -20.0], [17.3, -20.2], [-0.2, 0.0], [-14.6, 20.6], [14.5, 20.5]]; // prettier-ignore

export class DenseHead {
  #weights;
  #config;
  #variance;
  #levels;
  /** @type {number[][]} x, y, z of the mean face's five points */
  #five;
  /** @type {number[]} the level sampled for each slot */
  #slots;

  /**
   * @param {Metadata} note of a network with a dense branch
   * @param {Record<string, NumpyArray>} weights
   */
  constructor(note, weights) {
    const { levels } = note.anchors;
    this.#weights = weights;
    this.#config = /** @type {DenseConfig} */ (note.network?.dense);
    this.#variance = note.variances.center;
    this.#levels = denseLevels(note);
    this.#five = Array.from({ length: 5 }, (_, i) => [...(weights.five?.data ?? []).slice(3 * i, 3 * i + 3)]);
    this.#slots = levels.flatMap(({ sizes }, i) => sizes.map(() => Math.max(0, i - this.#config.finer)));
  }

  /**
   * The head of a file, null where its network has none.
   *
   * @param {Uint8Array} bytes the .tflite
   * @param {Metadata} note
   * @param {string} name what messages call the file
   * @throws {ModelError}
   */
  static async read(bytes, note, name) {
    if (!note.network?.dense) return null;
    try {
      const text = new TextDecoder("latin1").decode(bytes);
      const start = text.indexOf(START) + START.length;
      const length = Number(text.slice(start, start + DIGITS));
      const packed = atob(text.slice(start + DIGITS + 1, start + DIGITS + 1 + length));
      return new DenseHead(note, await readNpz(Uint8Array.from(packed, (letter) => letter.charCodeAt(0))));
    } catch (error) {
      throw new ModelError(`${name} has a dense branch but no weights for it (${/** @type {Error} */ (error).message}); export it again.`);
    }
  }

  /**
   * @param {Detection} detection
   * @param {Float32Array[]} features a map for each level sampled, fine to coarse
   * @param {number[]} network height and width of the input
   * @returns {number[][]} x, y, z of each vertex, in pixels of the network's input
   */
  vertices(detection, features, network) {
    const config = this.#config;
    const upright = { ...detection.anchor, cosine: 1, sine: 0 };
    const frame = config.frame === "face" ? faceFrame(detection) : upright;
    let values = this.#reduce(this.#sample(features, frame, detection.slot, network), detection.slot);
    if (config.hidden.length) values = values.map(positive);
    /** @type {ArrayLike<number> | undefined} */
    let base;
    /** @type {number[]} what the points say goes to every layer */
    let seen = [];
    if (config.frame === "face") {
      const points = detection.landmarks.map((point) => toFrame(point, frame));
      const posed = posedShape(points, this.#five, this.#weights.shape.data);
      [base, seen] = [posed.vertices, [...points.flat(), ...posed.rotation]];
    }
    values = Float32Array.of(...values, ...seen);
    config.hidden.forEach((_, number) => {
      const [kernel, bias] = [this.#weights[`hidden${number}_kernel`], this.#weights[`hidden${number}_bias`]];
      values = Float32Array.of(...multiply(values, kernel.data, bias.data).map(positive), ...seen);
    });
    const code = multiply(values, this.#weights.code_kernel.data, this.#weights.code_bias.data);
    const flat = multiply(code, this.#weights.basis.data, this.#weights.mean.data);
    const found = flat.map((value, i) => (base?.[i] ?? 0) + this.#variance * value);
    return Array.from({ length: config.vertices }, (_, i) => fromFrame(found.subarray(3 * i, 3 * i + 3), frame));
  }

  /**
   * Features on a grid over the face, interpolated between the four nearest cells.
   *
   * @param {Float32Array[]} features
   * @param {Frame} frame
   * @param {number} slot
   * @param {number[]} network
   * @returns {Float32Array} [grid * grid * C]
   */
  #sample(features, frame, slot, [height, width]) {
    const { grid, extent } = this.#config;
    const level = this.#slots[slot];
    const { stride } = this.#levels[level];
    const [rows, columns] = [Math.ceil(height / stride), Math.ceil(width / stride)];
    const map = features[level];
    const channels = map.length / (rows * columns);
    const result = new Float32Array(grid * grid * channels);
    const step = (/** @type {number} */ i) => extent * ((i + 0.5) / grid - 0.5);
    for (let place = 0; place < grid * grid; place++) {
      const [across, down] = [step(place % grid), step(Math.floor(place / grid))];
      const [x, y] = fromFrame([across, down, 0], frame).map((value) => value / stride - 0.5);
      const [column, right] = between(x, columns);
      const [row, lower] = between(y, rows);
      for (const [r, share] of /** @type {const} */ ([[row, 1 - lower], [Math.min(row + 1, rows - 1), lower]])) {
        for (const [c, part] of /** @type {const} */ ([[column, 1 - right], [Math.min(column + 1, columns - 1), right]])) {
          const start = (r * columns + c) * channels;
          for (let i = 0; i < channels; i++) result[place * channels + i] += share * part * map[start + i];
        }
      }
    }
    return result;
  }

  /**
   * The slot's own 1x1 convolution.
   *
   * @param {Float32Array} samples
   * @param {number} slot
   */
  #reduce(samples, slot) {
    const { grid, reduced } = this.#config;
    const { reduce_kernel: kernel, reduce_bias: bias } = this.#weights;
    const channels = samples.length / (grid * grid);
    const own = kernel.data.subarray(slot * channels * reduced, (slot + 1) * channels * reduced);
    const ownBias = bias.data.subarray(slot * reduced, (slot + 1) * reduced);
    const result = new Float32Array(grid * grid * reduced);
    for (let place = 0; place < grid * grid; place++) {
      result.set(multiply(samples.subarray(place * channels, (place + 1) * channels), own, ownBias), place * reduced);
    }
    return result;
  }
}

/**
 * Levels whose feature maps a network gives, fine to coarse.
 *
 * @param {Metadata} note
 */
export function denseLevels({ anchors: { levels }, network }) {
  return network?.dense ? levels.slice(0, Math.max(1, levels.length - network.dense.finer)) : [];
}

/**
 * The square round a box, turned as the five points are.
 *
 * @param {Detection} detection
 * @returns {Frame}
 */
function faceFrame({ box: [x1, y1, x2, y2], landmarks }) {
  const middle = [0, 1].map((axis) => landmarks.reduce((sum, point) => sum + point[axis], 0) / landmarks.length);
  let [cosine, sine] = [0, 0];
  landmarks.forEach(([px, py], i) => {
    const [u, v] = UPRIGHT[i];
    const [x, y] = [px - middle[0], py - middle[1]];
    cosine += x * u + y * v;
    sine += y * u - x * v;
  });
  const length = Math.hypot(cosine, sine);
  const turn = length < 1e-6 ? { cosine: 1, sine: 0 } : { cosine: cosine / length, sine: sine / length };
  return { x: (x1 + x2) / 2, y: (y1 + y2) / 2, size: Math.sqrt(Math.max((x2 - x1) * (y2 - y1), 1)), ...turn };
}

/**
 * @param {number[]} point x, y in pixels
 * @param {Frame} frame
 */
function toFrame([px, py], { x, y, size, cosine, sine }) {
  const [across, down] = [(px - x) / size, (py - y) / size];
  return [cosine * across + sine * down, cosine * down - sine * across];
}

/**
 * @param {ArrayLike<number>} point x, y, z in the frame
 * @param {Frame} frame
 */
function fromFrame(point, { x, y, size, cosine, sine }) {
  return [
    x + size * (cosine * point[0] - sine * point[1]),
    y + size * (cosine * point[1] + sine * point[0]),
    size * point[2],
  ];
}

/**
 * The cell before a place, and the next one's share; beyond the edge the last cell.
 *
 * @param {number} place
 * @param {number} cells
 */
function between(place, cells) {
  const inside = Math.min(Math.max(place, 0), cells - 1);
  return [Math.floor(inside), inside - Math.floor(inside)];
}

/**
 * A row times a matrix, plus a bias.
 *
 * @param {Float32Array} row
 * @param {Float32Array} kernel [row.length * bias.length]
 * @param {Float32Array} bias
 */
function multiply(row, kernel, bias) {
  const result = Float32Array.from(bias);
  row.forEach((value, i) => {
    const start = i * bias.length;
    for (let j = 0; j < bias.length; j++) result[j] += value * kernel[start + j];
  });
  return result;
}

/** @param {number} value */
function positive(value) {
  return Math.max(value, 0);
}
