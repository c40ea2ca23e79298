/** The decoder finds the faces that Python finds. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { joinCloseUps, placeCopies } from "../src/closeups.js";
import { DenseHead } from "../src/dense.js";
import { readFaces } from "../src/faces.js";
import { place } from "../src/placement.js";
import { overlapsMore, suppress } from "../src/suppression.js";
import { joinTiles, lookCloser, magnifications, regions, view } from "../src/zoom.js";
import { all, floats, json, missing } from "./vectors.js";

const PIXELS = 1e-3;

/**
 * @param {import("../src/faces.js").Face[]} found
 * @param {any} expected
 */
function assertSameFaces(found, expected) {
  assert.equal(found.length, expected.scores.length);
  let largest = 0;
  found.forEach(({ box, score, landmarks, vertices }, i) => {
    const values = [...box, ...landmarks.flat(), ...(vertices ?? []).flat()];
    const wanted = [...expected.boxes[i], ...expected.landmarks[i].flat(), ...(expected.vertices?.[i] ?? []).flat()];
    assert.equal(values.length, wanted.length);
    values.forEach((value, k) => (largest = Math.max(largest, Math.abs(value - wanted[k]))));
    assert.ok(Math.abs(score - expected.scores[i]) < 2e-6);
  });
  assert.ok(largest < PIXELS, `largest difference ${largest} pixels`);
  return largest;
}

/**
 * @param {any} vector
 * @returns {import("../src/faces.js").Face[]}
 */
function facesIn({ boxes, scores, landmarks }) {
  return scores.map((/** @type {number} */ score, /** @type {number} */ i) => ({ score, box: boxes[i], landmarks: landmarks[i] }));
}

test("faces of every vector equal Python's to a thousandth of a pixel", { skip: missing }, async (t) => {
  const vectors = [...all("drawn"), ...all("photos")];
  assert.ok(vectors.length >= 12, `${vectors.length} vectors`);
  let largest = 0;
  let faces = 0;
  for (const [name, vector] of vectors) {
    await t.test(name, () => {
      const outputs = Object.fromEntries(
        Object.entries(vector.outputs).map(([key, text]) => [key, floats(/** @type {string} */ (text))]),
      );
      const placement = {
        network: vector.network_size,
        content: vector.content_size,
        original: vector.original_size,
        scale: vector.scale,
      };
      const { threshold, iou, max_faces: maxFaces } = vector;
      const found = readFaces(/** @type {any} */ (outputs), placement, vector.metadata, { threshold, iou, maxFaces });
      largest = Math.max(largest, assertSameFaces(found, vector.faces));
      faces += found.length;
    });
  }
  t.diagnostic(`${vectors.length} vectors, ${faces} faces, largest difference ${largest.toExponential(1)} pixels`);
});

test("pictures are placed as Python places them", { skip: missing }, () => {
  for (const [name, vector] of all("photos")) {
    const [height, width] = vector.original_size;
    const { input } = vector.metadata;
    const resizable = vector.network_size.join() !== [input.height, input.width].join();
    const placement = place(height, width, { ...vector.metadata, input: { ...input, resizable } }, 2048);
    assert.deepEqual(placement.network, vector.network_size, name);
    assert.deepEqual(placement.content, vector.content_size, name);
    assert.deepEqual(placement.scale, vector.scale, name);
  }
  for (const { original, content, network, copies, metadata } of json("placements.json")) {
    const placement = place(original[0], original[1], metadata, 2048);
    assert.deepEqual([placement.content, placement.network], [content, network]);
    assert.deepEqual(
      placeCopies(placement, metadata).map((copy) => copy.content),
      copies,
    );
  }
});

test("close-ups are joined as Python joins them", { skip: missing }, () => {
  for (const { own, found, joined, original, content, metadata, iou } of json("closeups.json")) {
    const placement = { network: content, content, original, scale: [content[1] / original[1], content[0] / original[0]] };
    assertSameFaces(joinCloseUps(facesIn(own), found.map(facesIn), placement, metadata, iou), joined);
  }
});

test("closer looks are where Python looks, and their faces are joined as there", { skip: missing }, (t) => {
  let [tiles, kept] = [0, 0];
  for (const [name, { original_size: original, content_size: content, scale, iou, looks, steps }] of all("zoom")) {
    const placement = { network: content, content, original, scale };
    assert.deepEqual(magnifications(placement), looks, name);
    let before = 1;
    steps.forEach((/** @type {any} */ step, /** @type {number} */ i) => {
      const faces = facesIn(step.faces);
      const corners = regions(faces, placement, before, looks[i], step.tile, step.limit);
      assert.deepEqual(corners, step.corners, name);
      const views = corners.map((part) => view(placement, looks[i], part));
      assert.deepEqual(views.map(({ part }) => part), step.parts, name);
      const joined = joinTiles(faces, step.found.map(facesIn), corners, placement, looks[i], step.tile, iou);
      assertSameFaces(joined, step.joined);
      before = looks[i];
      tiles += corners.length;
      kept += joined.length;
    });
  }
  assert.ok(tiles > 30, `${tiles} tiles`);
  t.diagnostic(`${tiles} tiles, ${kept} faces`);
});

test("a closer look's faces are moved to the photo and take the place of those before", async () => {
  const landmarks = Array.from({ length: 5 }, () => [3, 4]);
  const placement = { network: [480, 640], content: [480, 640], original: [480, 640], scale: [1, 1] };
  const unsure = { box: [100, 200, 110, 210], score: 0.3, landmarks };
  /** @type {any[]} */
  const views = [];
  const found = await lookCloser([unsure], placement, [224, 224], 0.4, 32, async (where) => {
    views.push(where);
    return [{ box: [51, 51, 61, 61], score: 0.8, landmarks, vertices: [[1, 2, 3]] }];
  });
  assert.deepEqual(views, [{ part: [49, 149, 161, 261], content: [224, 224] }]);
  const moved = { box: [100, 200, 110, 210], score: 0.8, landmarks: landmarks.map(() => [52, 153]), vertices: [[50, 151, 3]] };
  assert.deepEqual(found, [moved]);
  assert.deepEqual(await lookCloser([unsure], placement, [224, 224], 0.4, 0, async () => assert.fail()), [unsure]);
});

test("vertices of a dense branch equal Python's", { skip: missing }, async (t) => {
  for (const { metadata, block, outputs, features, placement, faces } of json("dense.json")) {
    const dense = await DenseHead.read(new TextEncoder().encode(`before ${block} behind`), metadata, "face.tflite");
    const heads = Object.fromEntries(Object.entries(outputs).map(([name, text]) => [name, floats(String(text))]));
    const all = { ...heads, features: features.map(floats) };
    const found = readFaces(/** @type {any} */ (all), placement, metadata, { threshold: 0.5, iou: 0.4 }, dense);
    const largest = assertSameFaces(found, faces);
    t.diagnostic(`${found.length} faces of ${faces.vertices[0].length} vertices, within ${largest.toExponential(1)} pixels`);
    await assert.rejects(DenseHead.read(new Uint8Array(99), metadata, "face.tflite"), /^ModelError: face.tflite has a dense branch but no weights/);
  }
});

test("suppression keeps the best of a group and the order of equals", () => {
  const candidates = [
    { box: [0, 0, 10, 10], score: 0.5, name: "a" },
    { box: [1, 0, 11, 10], score: 0.9, name: "b" },
    { box: [50, 0, 60, 10], score: 0.9, name: "c" },
    { box: [90, 0, 100, 10], score: 0.7, name: "d" },
  ];
  assert.deepEqual(
    suppress(candidates, 0.4).map(({ name }) => name),
    ["b", "c", "d"],
  );
  assert.deepEqual(
    suppress(candidates, 0.4, 1).map(({ name }) => name),
    ["b"],
  );
  assert.equal(suppress(candidates, 0.9).length, 4);
  assert.equal(overlapsMore([0, 0, 2, 2], [1, 0, 3, 2], 1 / 3), false); // exactly a third
  assert.equal(overlapsMore([0, 0, 2, 2], [1, 0, 3, 2], 0.33), true);
});

test("scores that are not numbers, or too few, are a damaged model", { skip: missing }, () => {
  const [, vector] = all("drawn")[0];
  const placement = { network: vector.network_size, content: [64, 96], original: [64, 96], scale: [1, 1] };
  const outputs = {
    scores: floats(vector.outputs.scores).slice(),
    box_deltas: floats(vector.outputs.box_deltas),
    landmark_deltas: floats(vector.outputs.landmark_deltas),
  };
  outputs.scores[3] = NaN;
  assert.throws(() => readFaces(outputs, placement, vector.metadata), { name: "ModelError", message: /not numbers/ });
  outputs.scores = outputs.scores.slice(0, 3);
  assert.throws(() => readFaces(outputs, placement, vector.metadata), /answers for 3 anchors/);
});
