/** `FaceDetector`: RGB pixels in, faces out. No page and no camera: take it into your own app. */

import { joinCloseUps, placeCopies } from "./closeups.js";
import { DenseHead, denseLevels } from "./dense.js";
import { ModelError } from "./errors.js";
import { readFaces } from "./faces.js";
import { readMetadata } from "./metadata.js";
import { padded, resize, shrink } from "./pixels.js";
import { place, placementOf } from "./placement.js";
import { withInputSize } from "./tflite.js";
import { LEAST_SCORE, lookCloser, TILE } from "./zoom.js";

/** @import { CompiledModel } from "@litertjs/core" */
/** @import { Metadata } from "./metadata.js" */
/** @import { Face, Outputs, Placement } from "./faces.js" */
/** @import { Picture } from "./pixels.js" */

/**
 * What is used of LiteRT.js, after its `loadLiteRt`.
 *
 * @typedef {Pick<typeof import("@litertjs/core"), "loadAndCompile" | "Tensor">} LiteRT
 */

/**
 * Where closer looks take their pixels from, and how many there are.
 *
 * @typedef {object} Zoom
 * @property {(part: number[]) => Picture | Promise<Picture>} read pixels of the original picture between
 *   the corners x1, y1, x2, y2
 * @property {number} [budget] most tiles; 32 where nothing is said
 */

const HEADS = ["scores", "box_deltas", "landmark_deltas"];
// Compiled models kept for sizes seen before: so many pixels of input together. One takes about 80
// bytes a pixel, and WebAssembly never gives memory back.
const MAX_KEPT_PIXELS = 4_500_000;

export class FaceDetector {
  #litert;
  #bytes;
  #dense;
  /** @type {Map<string, CompiledModel>} by "HEIGHTxWIDTH", least recently used first */
  #compiled = new Map();

  /**
   * @param {LiteRT} litert
   * @param {Uint8Array} bytes
   * @param {Metadata} note
   * @param {DenseHead | null} dense
   */
  constructor(litert, bytes, note, dense) {
    this.#litert = litert;
    this.#bytes = bytes;
    this.#dense = dense;
    this.note = note;
  }

  /**
   * @param {LiteRT} litert
   * @param {Uint8Array<ArrayBuffer>} bytes a .tflite of `retinaface-tf export tflite`
   * @param {string} name what messages call it
   * @throws {ModelError}
   */
  static async open(litert, bytes, name) {
    const note = await readMetadata(bytes, name);
    return new FaceDetector(litert, bytes, note, await DenseHead.read(bytes, note, name));
  }

  /**
   * How a picture of this size would be searched; scale it to `content` before `detect`.
   *
   * @param {number} height
   * @param {number} width
   * @param {number} [longest] longest side searched
   */
  place(height, width, longest = 2048) {
    return place(height, width, this.note, longest);
  }

  /**
   * The faces of a picture, best first, in pixels of the original.
   *
   * @param {Picture} picture of the size `placement.content`
   * @param {Placement} placement from `place`
   * @param {{threshold?: number, iou?: number, closeUps?: boolean, zoom?: Zoom | null}} [settings]
   *   `closeUps`: also search a copy a quarter as wide where that costs little; `zoom`: look closer, in
   *   tiles, where faces are small
   * @returns {Promise<Face[]>}
   * @throws {ModelError}
   */
  async detect(picture, placement, settings = {}) {
    const { threshold = this.note.threshold, iou = this.note.iou, closeUps = true, zoom } = settings;
    const least = zoom ? Math.min(threshold, LEAST_SCORE) : threshold;
    const search = async (/** @type {Picture} */ seen, /** @type {Placement} */ where) =>
      readFaces(await this.#run(seen, where.network), where, this.note, { threshold: least, iou }, this.#dense);
    const own = await search(picture, placement);
    const found = [];
    for (const copy of closeUps ? placeCopies(placement, this.note) : []) {
      picture = shrink(picture, copy.content);
      found.push(await search(picture, copy));
    }
    const joined = joinCloseUps(own, found, placement, this.note, iou);
    if (!zoom) return joined;
    const { network: tile } = placementOf([TILE, TILE], [TILE, TILE], this.note);
    const closer = await lookCloser(joined, placement, tile, iou, zoom.budget ?? 32, async ({ part, content }) => {
      const pixels = await zoom.read(part);
      return search(resize(pixels, content), placementOf(content, [pixels.height, pixels.width], this.note));
    });
    return closer.filter(({ score }) => score >= Math.fround(threshold));
  }

  /**
   * Compiles the model for a picture's size, which `detect` would otherwise do the first time.
   *
   * @param {Placement} placement
   */
  async prepare(placement) {
    await this.#modelFor(placement.network);
  }

  /** Gives the models' memory back. */
  close() {
    for (const model of this.#compiled.values()) model.delete();
    this.#compiled.clear();
  }

  /**
   * @param {Picture} picture
   * @param {number[]} network
   * @returns {Promise<Outputs>}
   */
  async #run(picture, network) {
    const model = await this.#modelFor(network);
    const image = new this.#litert.Tensor(padded(picture, network, this.note.input), [1, ...network, 3]);
    try {
      const outputs = await model.run({ image });
      const maps = denseLevels(this.note).map(({ stride }) => `features_${stride}`);
      const [scores, box_deltas, landmark_deltas, ...features] = [...HEADS, ...maps].map((name) => {
        if (!outputs[name]) throw new ModelError(`The model has no output ${name}; export it again.`);
        return /** @type {Float32Array} */ (outputs[name].toTypedArray());
      });
      for (const output of Object.values(outputs)) output.delete();
      return { scores, box_deltas, landmark_deltas, features };
    } finally {
      image.delete();
    }
  }

  /**
   * The model compiled for a size of input.
   *
   * @param {number[]} network
   */
  async #modelFor([height, width]) {
    const key = `${height}x${width}`;
    let model = this.#compiled.get(key);
    if (!model) {
      this.#makeRoom(height * width);
      const { input } = this.note;
      const bytes =
        height === input.height && width === input.width
          ? this.#bytes
          : withInputSize(this.#bytes, this.note, height, width);
      model = await this.#litert.loadAndCompile(bytes, { accelerator: "wasm" });
    }
    this.#compiled.delete(key);
    this.#compiled.set(key, model);
    return model;
  }

  /** @param {number} needed pixels */
  #makeRoom(needed) {
    const pixels = (/** @type {string} */ key) => key.split("x").map(Number).reduce((a, b) => a * b);
    let sum = [...this.#compiled.keys()].reduce((total, key) => total + pixels(key), needed);
    for (const [key, model] of this.#compiled) {
      if (sum <= MAX_KEPT_PIXELS) break;
      model.delete();
      this.#compiled.delete(key);
      sum -= pixels(key);
    }
  }
}
