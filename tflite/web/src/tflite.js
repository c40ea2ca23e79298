/**
 * A .tflite prepared for another size of input.
 *
 * LiteRT.js runs a file at the one size written in it. In a file whose note says `resizable`, no
 * number depends on that size; only the shapes of the feature maps do. They are rewritten here, in
 * place: a shape is a vector of int32 in the FlatBuffer, and its length stays.
 */

import { ModelError } from "./errors.js";

/** @import { Metadata } from "./metadata.js" */

// Fields by their number in LiteRT's schema.fbs.
const MODEL = { subgraphs: 2, buffers: 4 };
const GRAPH = { tensors: 0 };
const TENSOR = { shape: 0, buffer: 2 };
const BUFFER = { data: 0 };

/**
 * A copy of the file for an input of `height` x `width` pixels.
 *
 * @param {Uint8Array} bytes the .tflite
 * @param {Metadata} note its note, which says `resizable`
 * @param {number} height multiple of `input.size_multiple`
 * @param {number} width likewise
 * @returns {Uint8Array<ArrayBuffer>}
 * @throws {ModelError} a feature map's shape is not understood
 */
export function withInputSize(bytes, note, height, width) {
  const copy = new Uint8Array(bytes);
  const file = new FlatBuffer(copy);
  const from = [note.input.height, note.input.width];
  const counts = new Map(zip(anchorCounts(note, from), anchorCounts(note, [height, width])));
  const model = file.root();
  const buffers = file.tables(model, MODEL.buffers);
  const [graph] = file.tables(model, MODEL.subgraphs);
  for (const tensor of file.tables(graph, GRAPH.tensors)) {
    const shape = file.integers(tensor, TENSOR.shape);
    if (shape.length < 2 || file.integers(buffers[file.uint32(tensor, TENSOR.buffer)], BUFFER.data).length) {
      continue; // a weight
    }
    if (shape.length === 4) {
      const [stride, border] = scaleOf(shape.get(1), shape.get(2), from);
      shape.set(1, height / stride + border);
      shape.set(2, width / stride + border);
    } else {
      const count = counts.get(shape.get(1));
      if (!count) throw notUnderstood();
      shape.set(1, count);
    }
  }
  return copy;
}

/**
 * Pixels a cell of a map stands for, and the cells padded around it.
 *
 * @param {number} rows
 * @param {number} columns
 * @param {number[]} size height and width of the input
 */
function scaleOf(rows, columns, [height, width]) {
  for (let border = 0; border <= 8; border++) {
    const stride = height / (rows - border);
    if (stride === width / (columns - border) && Number.isInteger(Math.log2(stride))) return [stride, border];
  }
  throw notUnderstood();
}

/**
 * Anchors of each level, and of all together.
 *
 * @param {Metadata} note
 * @param {number[]} size
 */
function anchorCounts(note, [height, width]) {
  const counts = note.anchors.levels.map(
    ({ stride, sizes }) => Math.ceil(height / stride) * Math.ceil(width / stride) * sizes.length,
  );
  return [...counts, counts.reduce((sum, count) => sum + count)];
}

/**
 * @template A, B
 * @param {A[]} a
 * @param {B[]} b
 * @returns {[A, B][]}
 */
function zip(a, b) {
  return a.map((value, i) => [value, b[i]]);
}

function notUnderstood() {
  return new ModelError("The model has a feature map whose size this page cannot change; export it at the size you need.");
}

/** Tables and vectors of a FlatBuffer, by position. */
class FlatBuffer {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  root() {
    return this.view.getUint32(0, true);
  }

  /**
   * Position of a field's value, 0 where the field is absent.
   *
   * @param {number} table
   * @param {number} field
   */
  field(table, field) {
    const fields = table - this.view.getInt32(table, true);
    const entry = 4 + 2 * field;
    const offset = entry < this.view.getUint16(fields, true) ? this.view.getUint16(fields + entry, true) : 0;
    return offset && table + offset;
  }

  /**
   * @param {number} table
   * @param {number} field
   */
  uint32(table, field) {
    const place = this.field(table, field);
    return place && this.view.getUint32(place, true);
  }

  /**
   * A vector of int32 (or of bytes, of which only the length is right).
   *
   * @param {number} table
   * @param {number} field
   */
  integers(table, field) {
    const { view } = this;
    const place = this.field(table, field);
    const vector = place && place + view.getUint32(place, true);
    return {
      length: vector && view.getUint32(vector, true),
      get: (/** @type {number} */ i) => view.getInt32(vector + 4 + 4 * i, true),
      set: (/** @type {number} */ i, /** @type {number} */ value) => view.setInt32(vector + 4 + 4 * i, value, true),
    };
  }

  /**
   * Positions of a vector's tables.
   *
   * @param {number} table
   * @param {number} field
   */
  tables(table, field) {
    const place = this.field(table, field);
    const vector = place + this.view.getUint32(place, true);
    return Array.from({ length: this.view.getUint32(vector, true) }, (_, i) => {
      const entry = vector + 4 + 4 * i;
      return entry + this.view.getUint32(entry, true);
    });
  }
}
