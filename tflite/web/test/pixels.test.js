/** Other sizes, parts and padding. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { AreaShrinker, cut, padded, resize, shrink } from "../src/pixels.js";
import { paddedSide, roundHalfEven } from "../src/placement.js";
import { json, missing } from "./vectors.js";

test("a picture of another size has OpenCV's pixels", { skip: missing }, (t) => {
  for (const { height, width, data, results } of json("shrinking.json")) {
    const picture = { height, width, data: new Uint8Array(Buffer.from(data, "base64")) };
    for (const result of results) {
      const expected = Buffer.from(result.data, "base64");
      const found = resize(picture, [result.height, result.width]).data;
      assert.equal(found.length, expected.length);
      const differences = Array.from(found, (value, i) => Math.abs(value - expected[i]));
      const different = differences.filter(Boolean).length / found.length;
      assert.ok(Math.max(...differences) <= 1, `${result.height}x${result.width}`);
      // Half-way sums are rounded another way where OpenCV takes its path for whole factors.
      assert.ok(different < 0.15, `${different} of the values differ`);
      t.diagnostic(`${width}x${height} to ${result.width}x${result.height}: ${(100 * different).toFixed(2)} % of the values off by one`);
    }
  }
});

test("strips of rows give what the whole picture gives", () => {
  const [height, width] = [37, 53];
  const data = Uint8Array.from({ length: height * width * 3 }, (_, i) => (i * 7919) % 251);
  const whole = shrink({ height, width, data }, [11, 20]);
  const shrinker = new AreaShrinker([height, width], [11, 20]);
  const rgba = Uint8Array.from({ length: height * width * 4 }, (_, i) => (i % 4 < 3 ? data[3 * (i >> 2) + (i % 4)] : 255));
  for (let y = 0; y < height; y += 5) shrinker.push(rgba.subarray(4 * y * width, 4 * Math.min(height, y + 5) * width), 4);
  assert.deepEqual(shrinker.result, whole);
  assert.deepEqual(shrink({ height, width, data }, [height, width]).data, new Uint8ClampedArray(data));
});

test("a part is cut out of a picture", () => {
  const data = Uint8Array.from({ length: 4 * 5 * 3 }, (_, i) => i);
  assert.deepEqual(cut({ height: 4, width: 5, data }, [3, 1, 5, 3]), {
    height: 2,
    width: 2,
    data: Uint8ClampedArray.of(24, 25, 26, 27, 28, 29, 39, 40, 41, 42, 43, 44),
  });
});

test("a picture lies in the upper left, the mean pixel around it", () => {
  const picture = { height: 1, width: 2, data: new Uint8Array([1, 2, 3, 4, 5, 6]) };
  const input = { padding: [10.5, 11.5, 12], dtype: /** @type {const} */ ("uint8") };
  const mean = [10, 12, 12];
  assert.deepEqual([...padded(picture, [2, 3], input)], [1, 2, 3, 4, 5, 6, ...mean, ...mean, ...mean, ...mean]);
  assert.ok(padded(picture, [2, 3], { ...input, dtype: "float32" }) instanceof Float32Array);
});

test("sides are padded in steps of at most an eighth", () => {
  assert.deepEqual(
    [1, 32, 33, 500, 512, 513, 1300, 2048].map((side) => paddedSide(side, 32)),
    [32, 32, 64, 512, 512, 576, 1408, 2048],
  );
  assert.deepEqual([0.5, 1.5, 2.5, 2.4, 2.6].map(roundHalfEven), [0, 2, 2, 2, 3]);
});
