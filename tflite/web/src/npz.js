/** Arrays in numpy's .npz: a ZIP of .npy files. Only float32 in C order, as an export writes. */

/**
 * @typedef {object} NumpyArray
 * @property {number[]} shape
 * @property {Float32Array} data
 */

/**
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {Promise<Record<string, NumpyArray>>} by name
 * @throws {Error} not such a file
 */
export async function readNpz(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  /** @type {Record<string, NumpyArray>} */
  const arrays = {};
  // The directory stands at the end, and its place in the last 22 bytes (no comment is written).
  const end = bytes.length - 22;
  if (end < 0 || view.getUint32(end, true) !== 0x06054b50) throw new Error("no ZIP directory");
  let entry = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((at) => view.getUint16(entry + at, true));
    const name = new TextDecoder().decode(bytes.subarray(entry + 46, entry + 46 + nameLength));
    const local = view.getUint32(entry + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const packed = bytes.subarray(start, start + view.getUint32(entry + 20, true));
    const deflated = view.getUint16(entry + 10, true) === 8;
    arrays[name.replace(/\.npy$/, "")] = readNpy(deflated ? await inflate(packed) : packed.slice());
    entry += 46 + nameLength + extraLength + commentLength;
  }
  return arrays;
}

/** @param {Uint8Array<ArrayBuffer>} packed */
async function inflate(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {NumpyArray}
 */
function readNpy(bytes) {
  const view = new DataView(bytes.buffer);
  const wide = bytes[6] > 1; // the header's length is a uint16 in version 1, a uint32 later
  const start = wide ? 12 : 10;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, start + length));
  const shape = /'shape': \(([\d, ]*)\)/.exec(header);
  if (!shape || !header.includes("'<f4'") || !header.includes("'fortran_order': False")) {
    throw new Error(`an array that is no float32: ${header.trim()}`);
  }
  const sides = shape[1].split(",").filter((side) => side.trim());
  return { shape: sides.map(Number), data: new Float32Array(bytes.slice(start + length).buffer) };
}
