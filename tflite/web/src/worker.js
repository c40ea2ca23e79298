/**
 * Runs the detector beside the page, so that the page stays quick. Messages are {id, task, ...},
 * answers {id, result} or {id, error}.
 *
 * A classic worker, not a module: LiteRT.js loads its WebAssembly by `importScripts`.
 */

/** @import { FaceDetector, LiteRT } from "./detector.js" */
/** @import { Face } from "./faces.js" */
/** @import { Picture } from "./pixels.js" */

/**
 * @typedef {object} Found
 * @property {Face[]} faces
 * @property {number[]} network height and width searched
 * @property {{reading: number, preparing: number, network: number}} milliseconds pixels read and
 *   shrunk; model compiled for a size that was not searched before; faces found
 */

// Rows of a large picture that are read at once are about so many pixels.
const STRIP = 1 << 20;

const LITERT = new URL("../litert/", self.location.href);

/** @type {Promise<{litert: LiteRT, threads: number, heap: () => number}> | undefined} */
let loading;
/** @type {FaceDetector | undefined} */
let detector;
const canvas = new OffscreenCanvas(1, 1);
const context = /** @type {OffscreenCanvasRenderingContext2D} */ (
  canvas.getContext("2d", { willReadFrequently: true })
);

/** LiteRT.js with as many threads as the page may have. */
async function loadLiteRT() {
  const script = "litert_wasm_threaded_internal.js";
  const litert = await import(/** @type {any} */ (new URL("litert.js", LITERT).href));
  const threads =
    self.crossOriginIsolated && (await litert.supportsFeature("relaxedSimd")) && (await litert.supportsFeature("threads"));
  // What LiteRT.js hands to its WebAssembly module: without it, files are looked for beside this one.
  /** @type {any} */ (self).Module = {
    locateFile: (/** @type {string} */ file) => new URL(`wasm/${file}`, LITERT).href,
    ...(threads ? { mainScriptUrlOrBlob: new URL(`wasm/${script}`, LITERT).href } : {}),
    print: () => {},
    printErr: () => {},
  };
  const { liteRtWasm } = await litert.loadLiteRt(new URL("wasm/", LITERT).href, { threads });
  return { litert, threads: liteRtWasm.getThreadCount(), heap: () => liteRtWasm.HEAPU8.byteLength };
}

const tasks = {
  /** @param {{bytes: Uint8Array<ArrayBuffer>, name: string}} message */
  async open({ bytes, name }) {
    loading ??= loadLiteRT();
    const [{ litert, threads }, { FaceDetector }] = await Promise.all([loading, import("./detector.js")]);
    const opened = await FaceDetector.open(litert, bytes, name);
    const { height, width } = opened.note.input;
    await opened.prepare(opened.place(height, width)); // so that a model LiteRT refuses is refused now
    detector?.close();
    detector = opened;
    return { note: opened.note, threads };
  },

  /**
   * @param {{bitmap: ImageBitmap, longest: number, threshold: number, closer: boolean}} message
   * @returns {Promise<Found>}
   */
  async detect({ bitmap, longest, threshold, closer }) {
    if (!detector) throw new Error("No model is open.");
    const begun = performance.now();
    const placement = detector.place(bitmap.height, bitmap.width, longest);
    const picture = await readPixels(bitmap, placement.content);
    const read = performance.now();
    await detector.prepare(placement);
    const prepared = performance.now();
    const zoom = closer ? { read: (/** @type {number[]} */ part) => readPixels(bitmap, sizeOf(part), part) } : null;
    const faces = await detector.detect(picture, placement, { threshold, zoom });
    bitmap.close();
    return {
      faces,
      network: placement.network,
      milliseconds: { reading: read - begun, preparing: prepared - read, network: performance.now() - prepared },
    };
  },

  /** Bytes of WebAssembly's memory. */
  async memory() {
    return loading ? (await loading).heap() : 0;
  },
};

/**
 * RGB pixels of a bitmap, or of a part of it, shrunk to a size; transparency is laid on white.
 *
 * @param {ImageBitmap} bitmap
 * @param {number[]} size height and width
 * @param {number[]} [part] corners x1, y1, x2, y2
 * @returns {Promise<Picture>}
 */
async function readPixels(bitmap, [height, width], part = [0, 0, bitmap.width, bitmap.height]) {
  const { AreaShrinker } = await import("./pixels.js");
  const own = sizeOf(part);
  const shrinker = new AreaShrinker(own, [height, width]);
  const whole = height === own[0] && width === own[1];
  const rows = Math.min(own[0], Math.ceil(STRIP / own[1]));
  if (canvas.width !== own[1] || canvas.height !== rows) {
    canvas.width = own[1];
    canvas.height = rows;
  }
  context.fillStyle = "white";
  for (let y = 0; y < own[0]; y += rows) {
    const count = Math.min(rows, own[0] - y);
    context.fillRect(0, 0, own[1], count);
    context.drawImage(bitmap, part[0], part[1] + y, own[1], count, 0, 0, own[1], count);
    const { data } = context.getImageData(0, 0, own[1], count);
    if (!whole) shrinker.push(data, 4);
    else dropAlpha(data, shrinker.result.data, 3 * y * width);
  }
  return shrinker.result;
}

/** Height and width between corners. @param {number[]} part */
function sizeOf([x1, y1, x2, y2]) {
  return [y2 - y1, x2 - x1];
}

/**
 * @param {Uint8ClampedArray} rgba
 * @param {Uint8Array | Uint8ClampedArray} rgb
 * @param {number} start of the first pixel in `rgb`
 */
function dropAlpha(rgba, rgb, start) {
  for (let from = 0, to = start; from < rgba.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
}

self.onmessage = async ({ data }) => {
  const { id, task } = data;
  try {
    const result = await tasks[/** @type {keyof typeof tasks} */ (task)](data);
    self.postMessage({ id, result });
  } catch (error) {
    const { name, message } = error instanceof Error ? error : { name: "Error", message: String(error) };
    self.postMessage({ id, error: { name, message } });
  }
};
