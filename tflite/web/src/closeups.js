/**
 * Faces larger than the largest anchor, found in a copy of the picture a quarter as wide
 * (retinaface_tf/inference/large_faces.py).
 */

import { placementOf, roundHalfEven } from "./placement.js";
import { area, intersection, suppress } from "./suppression.js";

/** @import { Metadata } from "./metadata.js" */
/** @import { Face, Placement } from "./faces.js" */

const SHRINKING = 4;
// A cell whose one anchor is the cell itself, as in YuNet, answers for faces up to about so many strides.
const CELL_REACH = 16;
// A face up to so many times the largest anchor still overlaps it well enough to be found.
const REACH = 1.25;
// Of the copies only faces from this share of the largest anchor count.
const LEAST = 0.75;
// A detection with this share of its area in a close-up is part of it.
const INSIDE = 0.9;
// Copies are searched where they cost at most this share of the picture's own search.
const MAX_COST = 0.1;

/**
 * Where smaller copies of a picture are to be searched for close-ups; mostly one or none.
 *
 * @param {Placement} own of the picture itself
 * @param {Metadata} note
 * @returns {Placement[]} each made from the one before it
 */
export function placeCopies(own, note) {
  const copies = [];
  let { content } = own;
  while (Math.min(...content) > REACH * largestAnchor(note)) {
    content = content.map((side) => Math.max(1, roundHalfEven(side / SHRINKING)));
    const copy = placementOf(content, own.original, note);
    if (pixels(copy.network) > MAX_COST * pixels(own.network)) break;
    copies.push(copy);
  }
  return copies;
}

/**
 * A picture's own faces and the large ones of its copies.
 *
 * @param {Face[]} own
 * @param {Face[][]} found in each copy
 * @param {Placement} placement of the picture itself
 * @param {Metadata} note
 * @param {number} iou
 * @returns {Face[]} best first
 */
export function joinCloseUps(own, found, { scale }, note, iou) {
  const side = (/** @type {Face} */ { box }) => Math.max((box[2] - box[0]) * scale[0], (box[3] - box[1]) * scale[1]);
  const large = found.flat().filter((face) => side(face) > LEAST * largestAnchor(note));
  if (!large.length) return own;
  const joined = suppress([...own, ...large], iou);
  const closeUps = joined.filter((face) => side(face) > REACH * largestAnchor(note));
  // Eyes and mouths look like little faces.
  return joined.filter(
    ({ box, score }) =>
      !closeUps.some((closeUp) => closeUp.score > score && intersection(box, closeUp.box) > INSIDE * area(box)),
  );
}

/**
 * Of networks that predict from cells, what takes its place.
 *
 * @param {Metadata} note
 */
function largestAnchor({ anchors }) {
  return Math.max(
    ...anchors.levels.map(({ stride, sizes }) =>
      sizes.length === 1 && sizes[0] === stride ? CELL_REACH * stride : Math.max(...sizes),
    ),
  );
}

/** @param {number[]} size */
function pixels([height, width]) {
  return height * width;
}
