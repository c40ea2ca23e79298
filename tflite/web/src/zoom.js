/**
 * Closer looks where faces are small: tiles of the photo around what the look before was unsure of
 * (retinaface_tf/inference/zoom.py and geometry/tiles.py). Sizes are [height, width], boxes x1, y1, x2, y2.
 */

import { roundHalfEven } from "./placement.js";
import { area, intersection, suppress } from "./suppression.js";

/** @import { Face, Placement } from "./faces.js" */

// As in Python, which says where they come from.
export const TILE = 224;
export const LEAST_SCORE = 0.2;
const SURE = 0.9;
const SMALL = 20;
const MARGIN = 0.5;
const LARGEST = 0.5;
const STEP = 2;
const LEAST_STEP = 1.2;
const CLOSEST = 4;
const SAME = 0.3;
const UNCONFIRMED = 0.5;
const MOST_REGIONS = 500;
// A box this near to an edge that cuts through the photo, in shares of its size, is taken for cut itself.
const CUT_MARGIN = 0.05;

/**
 * A tile: what is cut out of the photo, and the size that it is given.
 *
 * @typedef {object} View
 * @property {number[]} part corners in the photo
 * @property {number[]} content height and width
 */

/**
 * The faces of a photo after as many closer looks as its pixels and the budget allow.
 *
 * @param {Face[]} found by the first look, down to `LEAST_SCORE`
 * @param {Placement} placement of the first look
 * @param {number[]} tile height and width of the network's input for tiles
 * @param {number} iou of the suppression between looks
 * @param {number} budget most tiles
 * @param {(view: View) => Promise<Face[]>} search the faces of a tile in pixels of its part
 * @returns {Promise<Face[]>}
 */
export async function lookCloser(found, placement, tile, iou, budget, search) {
  let [before, left] = [1, budget];
  for (const closer of magnifications(placement)) {
    const parts = regions(found, placement, before, closer, tile, left);
    const seen = [];
    for (const corners of parts) {
      const where = view(placement, closer, corners);
      seen.push((await search(where)).map((face) => moved(face, where.part)));
    }
    found = joinTiles(found, seen, parts, placement, closer, tile, iou);
    [before, left] = [closer, left - parts.length];
  }
  return found;
}

/**
 * How many times closer than the first look the further looks are, rising.
 *
 * @param {Placement} placement
 */
export function magnifications({ content, original }) {
  const own = Math.min(original[0] / content[0], original[1] / content[1]);
  const limit = Math.min(Math.max(own, STEP), CLOSEST);
  const looks = [1];
  for (let last = 1; limit / last > LEAST_STEP; last = looks[looks.length - 1]) looks.push(Math.min(STEP * last, limit));
  return looks.slice(1);
}

/**
 * Where a photo is looked at again: corners of tiles in pixels of the closer look.
 *
 * @param {Face[]} faces of the look before
 * @param {Placement} placement of the first look
 * @param {number} before how many times closer than that the look before was
 * @param {number} closer how many times the next one is
 * @param {number[]} tile
 * @param {number} limit most tiles
 */
export function regions(faces, placement, before, closer, tile, limit) {
  const small = faces
    .filter(({ score }) => score >= Math.fround(LEAST_SCORE) && score < Math.fround(SURE))
    .map(({ box }) => scaled(box, placement, closer))
    .filter((box) => (longerSide(box) * before) / closer < SMALL);
  return cover(small.slice(0, MOST_REGIONS), sizeOf(placement, closer), tile, limit);
}

/**
 * What a tile shows of the photo.
 *
 * @param {Placement} placement of the first look
 * @param {number} closer
 * @param {number[]} corners in pixels of the closer look
 * @returns {View}
 */
export function view(placement, closer, corners) {
  const [height, width] = sizeOf(placement, closer);
  const { original } = placement;
  const across = [original[1] / width, original[0] / height];
  const [x1, y1, x2, y2] = corners.map((value, i) => roundHalfEven(value * across[i % 2]));
  return {
    part: [x1, y1, Math.max(x2, x1 + 1), Math.max(y2, y1 + 1)],
    content: [corners[3] - corners[1], corners[2] - corners[0]],
  };
}

/**
 * The faces of a look and of the tiles of the next one. A face that an inner edge of its tile cuts is left
 * to the look before; what that one found whole within a tile is replaced, or keeps a share of its score.
 *
 * @param {Face[]} before of the whole photo
 * @param {Face[][]} closer of each tile, in the photo's pixels
 * @param {number[][]} parts corners of the tiles in pixels of the closer look
 * @param {Placement} placement of the first look
 * @param {number} magnification of the closer look
 * @param {number[]} tile
 * @param {number} iou
 * @returns {Face[]} best first
 */
export function joinTiles(before, closer, parts, placement, magnification, tile, iou) {
  if (!parts.length) return before;
  const size = sizeOf(placement, magnification);
  const whole = (/** @type {Face} */ face, /** @type {number[]} */ part) => {
    const box = scaled(face.box, placement, magnification);
    const inside = box[0] >= part[0] - 1 && box[1] >= part[1] - 1 && box[2] <= part[2] + 1 && box[3] <= part[3] + 1;
    return inside && longerSide(box) < LARGEST * Math.min(...tile) && !cutByEdge(box, part, size);
  };
  const seen = closer.flatMap((faces, i) => faces.filter((face) => whole(face, parts[i])));
  const kept = suppress(seen, iou);
  const left = before.flatMap((face) => {
    if (!parts.some((part) => whole(face, part))) return [face];
    if (kept.some(({ box }) => overlap(face.box, box) >= SAME)) return [];
    return [{ ...face, score: UNCONFIRMED * face.score }];
  });
  return suppress([...left, ...kept], iou);
}

/**
 * Parts of a picture that have boxes in them, greedily: each takes the most that are left.
 *
 * @param {number[][]} boxes inside the picture
 * @param {number[]} size of the picture
 * @param {number[]} tile size of a part, cut to the picture's
 * @param {number} limit most parts
 * @returns {number[][]} corners
 */
export function cover(boxes, [height, width], tile, limit) {
  const sides = [Math.min(tile[1], width), Math.min(tile[0], height)];
  const withEnds = (/** @type {number} */ x, /** @type {number} */ y) => {
    const left = Math.min(Math.max(x, 0), width - sides[0]);
    const top = Math.min(Math.max(y, 0), height - sides[1]);
    return [left, top, left + sides[0], top + sides[1]];
  };
  const wanted = boxes
    .map(([x1, y1, x2, y2]) => {
      const [across, down] = [MARGIN * (x2 - x1), MARGIN * (y2 - y1)];
      return [
        Math.floor(Math.max(x1 - across, 0)),
        Math.floor(Math.max(y1 - down, 0)),
        Math.ceil(Math.min(x2 + across, width)),
        Math.ceil(Math.min(y2 + down, height)),
      ];
    })
    .filter(([x1, y1, x2, y2]) => x2 - x1 <= tile[1] && y2 - y1 <= tile[0]);
  // Some best part has boxes at two of its edges.
  const ends = [0, 2].flatMap((x) =>
    [1, 3].flatMap((y) => wanted.map((box) => withEnds(box[x] - (x === 2 ? tile[1] : 0), box[y] - (y === 3 ? tile[0] : 0)))),
  );
  const gains = ends.map((part) => wanted.flatMap((box, i) => (isInside(box, part) ? [i] : [])));
  const left = new Set(wanted.keys());
  const chosen = [];
  while (chosen.length < limit && left.size) {
    let best = /** @type {number[]} */ ([]);
    for (const gain of gains) {
      const fresh = gain.filter((i) => left.has(i));
      if (fresh.length > best.length) best = fresh;
    }
    const corner = (/** @type {number} */ axis) => {
      const low = Math.min(...best.map((i) => wanted[i][axis]));
      const high = Math.max(...best.map((i) => wanted[i][axis + 2]));
      return Math.floor((low + high) / 2 - tile[1 - axis] / 2); // what it was chosen for is in its middle
    };
    const part = withEnds(corner(0), corner(1));
    chosen.push(part);
    wanted.forEach((box, i) => isInside(box, part) && left.delete(i));
  }
  return chosen;
}

/**
 * A face of a part in pixels of the photo.
 *
 * @param {Face} face
 * @param {number[]} part
 * @returns {Face}
 */
function moved({ box, score, landmarks, vertices }, [x, y]) {
  const shift = (/** @type {number[]} */ values) => values.map((value, i) => value + [x, y, 0][i]);
  return {
    box: [...shift(box.slice(0, 2)), ...shift(box.slice(2))],
    score,
    landmarks: landmarks.map(shift),
    ...(vertices && { vertices: vertices.map(shift) }),
  };
}

/**
 * @param {number[]} box in pixels of the photo
 * @param {Placement} placement
 * @param {number} closer
 */
function scaled(box, { scale }, closer) {
  return box.map((value, i) => value * scale[i % 2] * closer);
}

/**
 * Of the whole photo in a closer look.
 *
 * @param {Placement} placement
 * @param {number} closer
 */
function sizeOf({ content }, closer) {
  return content.map((side) => Math.max(1, roundHalfEven(side * closer)));
}

/**
 * Whether a box ends at an edge of a part that is not the picture's own.
 *
 * @param {number[]} box
 * @param {number[]} part
 * @param {number[]} size of the picture
 */
function cutByEdge(box, part, [height, width]) {
  const inner = [part[0] > 0, part[1] > 0, part[2] < width, part[3] < height];
  const margin = [CUT_MARGIN * (box[2] - box[0]), CUT_MARGIN * (box[3] - box[1])];
  return inner.some((cuts, i) => cuts && Math.abs(box[i] - part[i]) < margin[i % 2]);
}

/** @param {number[]} box */
function longerSide([x1, y1, x2, y2]) {
  return Math.max(x2 - x1, y2 - y1);
}

/**
 * @param {number[]} box
 * @param {number[]} part
 */
function isInside(box, part) {
  return part[0] <= box[0] && part[1] <= box[1] && part[2] >= box[2] && part[3] >= box[3];
}

/**
 * Intersection over union.
 *
 * @param {number[]} a
 * @param {number[]} b
 */
function overlap(a, b) {
  const shared = intersection(a, b);
  return shared / (area(a) + area(b) - shared);
}
