/** A mean face turned in space so that its five points meet detected ones, in closed form. */

/**
 * The linear map from the mean's five points to the picture is made a scaled rotation by its polar
 * decomposition (`posed_shape` in retinaface_tf/layers/dense_frames.py).
 *
 * @param {number[][]} points five x, y in the face's frame
 * @param {number[][]} five five x, y, z of the mean
 * @param {ArrayLike<number>} shape [V * 3] the mean
 * @returns {{vertices: number[], rotation: number[]}} [V * 3] in the frame; [9] row by row
 */
export function posedShape(points, five, shape) {
  const middle = mean(five);
  const known = five.map((point) => point.map((value, axis) => value - middle[axis]));
  const offset = mean(points);
  const inverse = inverse3([0, 1, 2].map((i) => [0, 1, 2].map((j) => sum(known, (point) => point[i] * point[j]))));
  const solver = known.map((point) => inverse.map((_, j) => dot(point, inverse.map((row) => row[j]))));
  const [first, second] = [0, 1].map((axis) =>
    [0, 1, 2].map((j) => sum(points, (point, k) => (point[axis] - offset[axis]) * solver[k][j])),
  );
  // The square root of [[a, b], [b, d]], then its inverse.
  let [a, b, d] = [dot(first, first), dot(first, second), dot(second, second)];
  const determinant = Math.sqrt(Math.max(a * d - b * b, 1e-12));
  const trace = Math.sqrt(a + d + 2 * determinant);
  [a, b, d] = [(a + determinant) / trace, b / trace, (d + determinant) / trace];
  const right = first.map((value, i) => (d * value - b * second[i]) / determinant);
  const down = second.map((value, i) => (a * value - b * first[i]) / determinant);
  const away = [1, 2, 0].map((i, k) => right[i] * down[(k + 2) % 3] - right[(k + 2) % 3] * down[i]);
  const scale = (a + d) / 2;
  // Depth counts from the nose tip, the third of the five.
  const shift = [...offset, -scale * dot(known[2], away)];
  const vertices = new Array(shape.length);
  for (let i = 0; i < shape.length; i += 3) {
    const point = [shape[i] - middle[0], shape[i + 1] - middle[1], shape[i + 2] - middle[2]];
    [right, down, away].forEach((axis, k) => (vertices[i + k] = scale * dot(point, axis) + shift[k]));
  }
  return { vertices, rotation: [...right, ...down, ...away] };
}

/** @param {number[][]} m symmetric and regular */
function inverse3([[a, b, c], [, d, e], [, , f]]) {
  const rows = [
    [d * f - e * e, c * e - b * f, b * e - c * d],
    [c * e - b * f, a * f - c * c, b * c - a * e],
    [b * e - c * d, b * c - a * e, a * d - b * b],
  ];
  const determinant = dot([a, b, c], rows[0]);
  return rows.map((row) => row.map((value) => value / determinant));
}

/** @param {number[][]} points */
function mean(points) {
  return points[0].map((_, axis) => sum(points, (point) => point[axis]) / points.length);
}

/**
 * @template T
 * @param {T[]} items
 * @param {(item: T, index: number) => number} value
 */
function sum(items, value) {
  return items.reduce((total, item, index) => total + value(item, index), 0);
}

/**
 * @param {number[]} a
 * @param {number[]} b
 */
function dot(a, b) {
  return sum(a, (value, i) => value * b[i]);
}
