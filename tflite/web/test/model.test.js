/** Model files: what they say, what is refused, other sizes of input. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { readMetadata } from "../src/metadata.js";
import { withInputSize } from "../src/tflite.js";
import { all, bytes, missing } from "./vectors.js";

const FILES = ["models/float32.tflite", "models/int8.tflite"];

test("the note is the one that Python wrote", { skip: missing }, async () => {
  for (const file of FILES) {
    const note = await readMetadata(bytes(file), file);
    const [, vector] = /** @type {[string, any]} */ (all("photos").find(([, { model }]) => model === file));
    for (const key of /** @type {const} */ (["input", "anchors", "variances", "precision", "threshold", "iou"])) {
      assert.deepEqual(note[key], vector.metadata[key]);
    }
  }
});

test("a damaged, cut or foreign file is refused with what to do", { skip: missing }, async () => {
  const whole = bytes(FILES[0]);
  const seal = Buffer.from(whole).indexOf("retinaface_tf_sha256");
  const cases = {
    empty: [whole.slice(0, 0), /empty/],
    foreign: [new TextEncoder().encode("TFL3 but nothing of ours".repeat(9)), /not a model of/],
    "cut off": [whole.slice(0, -100), /cut off or damaged/],
    "without its note": [whole.slice(0, seal), /not a model of/],
    "two notes": [new Uint8Array([...whole, ...whole]), /not a model of/],
    "one bit": [whole.map((byte, i) => (i === 1000 ? byte ^ 4 : byte)), /cut off or damaged/],
  };
  for (const [name, [content, message]] of Object.entries(cases)) {
    await assert.rejects(
      readMetadata(/** @type {Uint8Array<ArrayBuffer>} */ (content), "face.tflite"),
      (/** @type {Error} */ error) => {
        assert.equal(error.name, "ModelError", name);
        assert.match(error.message, /^face\.tflite .*(export|copy)[^.]*\.$/);
        assert.match(error.message, /** @type {RegExp} */ (message), name);
        return true;
      },
    );
  }
});

test("a network of another kind is named as such", async () => {
  for (const [note, message] of /** @type {[object, RegExp][]} */ ([
    [{ format: 2 }, /format 2 .* reads 1/],
    [{ format: 1, suppression: { iou: 0.4 } }, /without --with-nms/],
    [{ format: 1, input: { height: 480 } }, /does not know/],
    [{ format: 1, input: { resizable: true }, network: { deformable: true } }, /export it at one size/],
    [{ format: 1, input: { height: 1, width: 1, size_multiple: 32, padding: [0, 0, 0], dtype: "int4" } }, /does not know/],
  ])) {
    await assert.rejects(readMetadata(await sealed(note), "face.tflite"), message);
  }
});

/** @param {object} note */
async function sealed(note) {
  const blank = "0".repeat(64);
  const text = `{"retinaface_tf_sha256": "${blank}", ${JSON.stringify(note).slice(1)}`;
  const content = new Uint8Array(4 + text.length);
  new DataView(content.buffer).setUint32(0, text.length, true);
  content.set(new TextEncoder().encode(text), 4);
  const digest = Buffer.from(await crypto.subtle.digest("SHA-256", content)).toString("hex");
  content.set(new TextEncoder().encode(text.replace(blank, digest)), 4);
  return content;
}

test("another size changes shapes alone, and back again nothing", { skip: missing }, async () => {
  for (const file of FILES) {
    const content = bytes(file);
    const note = await readMetadata(content, file);
    assert.deepEqual(withInputSize(content, note, 480, 640), content);
    const large = withInputSize(content, note, 960, 512);
    const changed = large.reduce((count, byte, i) => count + Number(byte !== content[i]), 0);
    assert.ok(changed > 200 && changed < 2000, `${changed} bytes`);
    const back = withInputSize(large, { ...note, input: { ...note.input, height: 960, width: 512 } }, 480, 640);
    assert.deepEqual(back, content);
  }
});
