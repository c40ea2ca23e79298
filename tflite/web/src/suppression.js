/** Greedy non-maximum suppression. */

// Only the best so many boxes take part.
const MOST = 5000;

/**
 * The best-scored of every group of boxes that overlap, best first; equal scores keep their order.
 *
 * @template {{box: number[], score: number}} T
 * @param {T[]} candidates
 * @param {number} iou a box goes when its overlap with a kept, better one is above this
 * @param {number | null} [limit] stop after so many
 * @returns {T[]}
 */
export function suppress(candidates, iou, limit = null) {
  const ranked = candidates.toSorted((a, b) => b.score - a.score).slice(0, MOST);
  /** @type {T[]} */
  const kept = [];
  for (const candidate of ranked) {
    if (kept.length === limit) break;
    if (!kept.some((better) => overlapsMore(candidate.box, better.box, iou))) kept.push(candidate);
  }
  return kept;
}

/**
 * Whether the intersection over union of two boxes x1, y1, x2, y2 is above a threshold.
 *
 * @param {number[]} a
 * @param {number[]} b
 * @param {number} threshold
 */
export function overlapsMore(a, b, threshold) {
  const shared = intersection(a, b);
  return shared > threshold * (area(a) + area(b) - shared);
}

/**
 * @param {number[]} a
 * @param {number[]} b
 */
export function intersection(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return Math.max(width, 0) * Math.max(height, 0);
}

/** @param {number[]} box */
export function area([x1, y1, x2, y2]) {
  return Math.max(x2 - x1, 0) * Math.max(y2 - y1, 0);
}
