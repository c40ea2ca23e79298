/**
 * At which size a picture is searched, and how it lies in the network's input
 * (retinaface_tf/inference/preprocess.py). Sizes are [height, width] in pixels.
 */

/** @import { Metadata } from "./metadata.js" */
/** @import { Placement } from "./faces.js" */

/**
 * The placement of a picture: shrunk, never enlarged, into `longest` and into a model that takes
 * one size only, then padded.
 *
 * @param {number} height of the picture
 * @param {number} width
 * @param {Metadata} note
 * @param {number} longest longest side searched
 * @returns {Placement}
 */
export function place(height, width, note, longest) {
  const { input } = note;
  let content = shrunk([height, width], longest / Math.max(height, width));
  if (!input.resizable) {
    const frame = [input.height, input.width];
    content = shrunk(content, Math.min(frame[0] / content[0], frame[1] / content[1])).map((side, i) =>
      Math.min(side, frame[i]),
    );
  }
  return placementOf(content, [height, width], note);
}

/**
 * The placement of a picture that was scaled to `content`.
 *
 * @param {number[]} content
 * @param {number[]} original
 * @param {Metadata} note
 * @returns {Placement}
 */
export function placementOf(content, original, { input }) {
  const network = input.resizable
    ? content.map((side) => paddedSide(side, input.size_multiple))
    : [input.height, input.width];
  return { network, content, original, scale: [content[1] / original[1], content[0] / original[0]] };
}

/**
 * The next multiple of a step that grows with the side, so that many sizes of picture share few
 * sizes of network: steps are at most an eighth of the side.
 *
 * @param {number} side
 * @param {number} stride
 */
export function paddedSide(side, stride) {
  let step = stride;
  while (side >= 16 * step) step *= 2;
  return Math.ceil(side / step) * step;
}

/**
 * @param {number[]} size
 * @param {number} scale
 */
function shrunk(size, scale) {
  return scale < 1 ? size.map((side) => Math.max(1, roundHalfEven(side * scale))) : size;
}

/**
 * As Python rounds: a half goes to the even neighbour.
 *
 * @param {number} value
 */
export function roundHalfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
