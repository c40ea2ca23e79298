/** A file read as a picture. */

import { PictureError } from "./errors.js";

const MAX_PIXELS = 100_000_000;

/**
 * The upright picture in a file: EXIF orientation applied, colour profiles not, as in Python.
 *
 * @param {File} file
 * @returns {Promise<ImageBitmap>}
 * @throws {PictureError}
 */
export async function readPicture(file) {
  if (!file.size) throw new PictureError(`${file.name} is empty; choose another file.`);
  /** @type {ImageBitmap} */
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new PictureError(
      `${file.name} cannot be read as a picture: it is damaged, or of a kind this browser does not know; choose a JPEG, PNG, WebP or GIF.`,
    );
  }
  if (bitmap.width * bitmap.height > MAX_PIXELS) {
    const size = `${bitmap.width} x ${bitmap.height}`;
    bitmap.close();
    throw new PictureError(`${file.name} has ${size} pixels, more than the limit of 100 million; make it smaller.`);
  }
  return bitmap;
}
