/**
 * What a .tflite says about itself: one JSON block, sealed by a checksum of the whole file
 * (retinaface_tf/modelfile/metadata.py writes it).
 */

import { ModelError } from "./errors.js";

/**
 * The parts of the block that decoding needs.
 *
 * @typedef {object} Metadata
 * @property {string | null} preset name of the trained network
 * @property {string} precision float32, float16, dynamic or int8
 * @property {{height: number, width: number, dtype: "float32" | "uint8", resizable: boolean,
 *   size_multiple: number, padding: number[]}} input padding is the RGB around a picture
 * @property {{levels: {stride: number, sizes: number[]}[]}} anchors
 * @property {{center: number, size: number}} variances
 * @property {{dense?: import("./dense.js").DenseConfig, deformable?: boolean}} [network] dense: the
 *   mesh's branch, if any
 * @property {number} threshold least score to begin with
 * @property {number} iou overlap above which the worse of two boxes is dropped
 */

const FORMAT = 1;
const SEAL = '{"retinaface_tf_sha256": "';
const DIGITS = 64;

/**
 * The block of a file that is whole and unchanged since it was written.
 *
 * The checksum needs `crypto.subtle`, which browsers give to https and localhost alone; elsewhere
 * it is not looked at.
 *
 * @param {Uint8Array<ArrayBuffer>} bytes the .tflite
 * @param {string} name what messages call it
 * @returns {Promise<Metadata>}
 * @throws {ModelError} cut off, damaged, another program's, or for apps that decode nothing
 */
export async function readMetadata(bytes, name) {
  if (!bytes.length) throw new ModelError(`${name} is empty; export or copy it again.`);
  const text = new TextDecoder("latin1").decode(bytes);
  const start = text.indexOf(SEAL);
  if (start < 4 || text.indexOf(SEAL, start + 1) >= 0) {
    throw new ModelError(
      `${name} is not a model of "retinaface-tf export tflite", or it is damaged; export it again.`,
    );
  }
  const digits = start + SEAL.length;
  if (globalThis.crypto?.subtle) {
    const blank = bytes.slice().fill("0".charCodeAt(0), digits, digits + DIGITS);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", blank));
    const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (hex !== text.slice(digits, digits + DIGITS)) {
      throw new ModelError(
        `${name} is cut off or damaged: its bytes are not those that were exported; copy or export it again.`,
      );
    }
  }
  // A vector of a FlatBuffer has its length in front of it.
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(start - 4, true);
  let note;
  try {
    note = JSON.parse(new TextDecoder().decode(bytes.subarray(start, start + length)));
  } catch {
    throw new ModelError(`${name} is damaged: its note is not JSON; export it again.`);
  }
  return checked(note, name);
}

/**
 * @param {any} note
 * @param {string} name
 * @returns {Metadata}
 */
function checked(note, name) {
  if (note.format !== FORMAT) {
    throw new ModelError(
      `${name} has format ${note.format} and this page reads ${FORMAT}; take the page of the version that exported it.`,
    );
  }
  if (note.suppression) {
    throw new ModelError(`${name} ends in faces; export it without --with-nms to use it here.`);
  }
  if (note.network?.deformable && note.input?.resizable) {
    throw new ModelError(
      `${name} has deformable convolutions that work out their shapes as they run, which LiteRT.js cannot; export it at one size, such as --size 639x480.`,
    );
  }
  const numbers = [
    note.input?.height,
    note.input?.width,
    note.input?.size_multiple,
    note.variances?.center,
    note.variances?.size,
    note.threshold,
    note.iou,
    ...(note.input?.padding ?? [NaN]),
    ...(note.anchors?.levels ?? [NaN]).flatMap((/** @type {any} */ level) => [level?.stride, ...(level?.sizes ?? [NaN])]),
  ];
  if (!numbers.every(Number.isFinite) || !["float32", "uint8"].includes(note.input.dtype)) {
    throw new ModelError(`${name} describes a network that this page does not know; export it again.`);
  }
  return note;
}
