/** Pixels: area averaging when a picture shrinks, padding, and the network's number type. */

import { roundHalfEven } from "./placement.js";

/**
 * RGB pixels, row by row.
 *
 * @typedef {object} Picture
 * @property {number} height
 * @property {number} width
 * @property {Uint8Array | Uint8ClampedArray} data [height * width * 3]
 */

/**
 * Shrinks a picture by area averaging (OpenCV's INTER_AREA), which takes its rows a strip at a
 * time: a photo of 50 million pixels never lies in memory as a whole.
 */
export class AreaShrinker {
  #columns;
  #rows;
  /** @type {Float32Array} sum of the row of the result that is being filled */
  #sum;
  #row = 0;
  #taken = 0;

  /**
   * @param {number[]} from height and width of the picture
   * @param {number[]} to of the result, neither larger
   */
  constructor([height, width], [toHeight, toWidth]) {
    this.#columns = shares(width, toWidth);
    this.#rows = shares(height, toHeight);
    this.#sum = new Float32Array(toWidth * 3);
    /** @type {Picture} */
    this.result = { height: toHeight, width: toWidth, data: new Uint8ClampedArray(toHeight * toWidth * 3) };
  }

  /**
   * The next rows.
   *
   * @param {Uint8Array | Uint8ClampedArray} data
   * @param {number} channels 3, or 4 of which the last is left out
   */
  push(data, channels) {
    const { width, height } = this.result;
    const columns = this.#columns;
    const pitch = columns.length * channels;
    const line = new Float32Array(width * 3);
    for (let start = 0; start < data.length; start += pitch) {
      line.fill(0);
      for (let x = 0, place = start; x < columns.length; x++, place += channels) {
        const { cell, share, next } = columns[x];
        const i = 3 * cell;
        line[i] += share * data[place];
        line[i + 1] += share * data[place + 1];
        line[i + 2] += share * data[place + 2];
        if (next) {
          line[i + 3] += next * data[place];
          line[i + 4] += next * data[place + 1];
          line[i + 5] += next * data[place + 2];
        }
      }
      const { share, next } = this.#rows[this.#taken++];
      this.#add(line, share);
      if (this.#taken === this.#rows.length || this.#rows[this.#taken].cell > this.#row) this.#finishRow();
      if (next && this.#row < height) this.#add(line, next);
    }
  }

  /**
   * @param {Float32Array} line
   * @param {number} share
   */
  #add(line, share) {
    for (let i = 0; i < line.length; i++) this.#sum[i] += share * line[i];
  }

  #finishRow() {
    const { data } = this.result;
    const start = this.#row++ * this.#sum.length;
    // A typed array of clamped bytes rounds a half to the even neighbour, as OpenCV does.
    data.set(this.#sum, start);
    this.#sum.fill(0);
  }
}

/**
 * For each of `from` cells: which of `to` larger cells it falls into first, the part of that one
 * it covers, and of the next.
 *
 * @param {number} from
 * @param {number} to
 */
function shares(from, to) {
  const scale = from / to;
  return Array.from({ length: from }, (_, i) => {
    const cell = Math.min(to - 1, Math.floor(i / scale + 1e-9));
    const end = (cell + 1) * scale;
    const over = cell + 1 < to ? Math.max(0, i + 1 - end) : 0;
    const next = over < 1e-6 ? 0 : over / scale;
    return { cell, share: (1 - (next && over)) / scale, next };
  });
}

/**
 * @param {Picture} picture
 * @param {number[]} size height and width, neither larger than the picture's
 * @returns {Picture}
 */
export function shrink(picture, size) {
  const shrinker = new AreaShrinker([picture.height, picture.width], size);
  shrinker.push(picture.data, 3);
  return shrinker.result;
}

/**
 * A picture at another size: averaged where it shrinks, between its pixels (OpenCV's INTER_LINEAR) where
 * a side grows.
 *
 * @param {Picture} picture
 * @param {number[]} size height and width
 * @returns {Picture}
 */
export function resize(picture, [height, width]) {
  if (height === picture.height && width === picture.width) return picture;
  if (height <= picture.height && width <= picture.width) return shrink(picture, [height, width]);
  const columns = between(picture.width, width);
  const data = new Uint8ClampedArray(height * width * 3);
  let i = 0;
  for (const [upper, lower, down] of between(picture.height, height)) {
    for (const [left, right, across] of columns) {
      for (let channel = 0; channel < 3; channel++) {
        const at = (/** @type {number} */ y, /** @type {number} */ x) => picture.data[3 * (y * picture.width + x) + channel];
        const above = at(upper, left) * (1 - across) + at(upper, right) * across;
        const below = at(lower, left) * (1 - across) + at(lower, right) * across;
        data[i++] = above * (1 - down) + below * down;
      }
    }
  }
  return { height, width, data };
}

/**
 * For each of `to` cells the two of `from` cells around its middle, and the share of the second.
 *
 * @param {number} from
 * @param {number} to
 */
function between(from, to) {
  return Array.from({ length: to }, (_, i) => {
    const middle = Math.min(Math.max(((i + 0.5) * from) / to - 0.5, 0), from - 1);
    const first = Math.floor(middle);
    return [first, Math.min(first + 1, from - 1), middle - first];
  });
}

/**
 * A part of a picture.
 *
 * @param {Picture} picture
 * @param {number[]} part corners x1, y1, x2, y2
 * @returns {Picture}
 */
export function cut({ width, data }, [x1, y1, x2, y2]) {
  const line = 3 * (x2 - x1);
  const cutOut = new Uint8ClampedArray((y2 - y1) * line);
  for (let y = y1; y < y2; y++) cutOut.set(data.subarray(3 * (y * width + x1), 3 * (y * width + x2)), (y - y1) * line);
  return { height: y2 - y1, width: x2 - x1, data: cutOut };
}

/**
 * The network's input: the picture in the upper left, its mean pixel around it.
 *
 * @param {Picture} picture
 * @param {number[]} network height and width
 * @param {{padding: number[], dtype: "float32" | "uint8"}} input of the note
 * @returns {Float32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>} [height * width * 3] 0..255
 */
export function padded(picture, [height, width], { padding, dtype }) {
  const tensor = new (dtype === "uint8" ? Uint8Array : Float32Array)(height * width * 3);
  const color = padding.map(roundHalfEven);
  const line = 3 * picture.width;
  for (let y = 0; y < height; y++) {
    const start = 3 * y * width;
    let x = 0;
    if (y < picture.height) {
      tensor.set(picture.data.subarray(y * line, (y + 1) * line), start);
      x = picture.width;
    }
    for (; x < width; x++) tensor.set(color, start + 3 * x);
  }
  return tensor;
}
