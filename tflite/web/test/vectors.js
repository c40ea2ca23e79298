/** Test vectors that the Python library wrote; `tests/web` says where by RETINAFACE_VECTORS. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const folder = process.env.RETINAFACE_VECTORS ?? "";
export const missing = existsSync(folder) ? false : "RETINAFACE_VECTORS names no folder; pytest tests/web writes it";

/**
 * @param {string} name file under the folder
 * @returns {any}
 */
export function json(name) {
  return JSON.parse(readFileSync(join(folder, name), "utf8"));
}

/**
 * @param {string} kind subfolder
 * @returns {[string, any][]} names and contents
 */
export function all(kind) {
  const files = missing || !existsSync(join(folder, kind)) ? [] : readdirSync(join(folder, kind));
  return files.sort().map((file) => [`${kind}/${file}`, json(`${kind}/${file}`)]);
}

/** @param {string} text base64 of little-endian float32 */
export function floats(text) {
  const bytes = Buffer.from(text, "base64");
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

/** @param {string} name */
export function bytes(name) {
  return new Uint8Array(readFileSync(join(folder, name)));
}
