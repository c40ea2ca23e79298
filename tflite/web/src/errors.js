/** Errors whose message is one sentence for the person in front of the page. */

/** A model file that cannot be used. */
export class ModelError extends Error {
  name = "ModelError";
}

/** A file that is no picture, or one that cannot be searched. */
export class PictureError extends Error {
  name = "PictureError";
}

/** A camera that is missing, busy or not allowed. */
export class CameraError extends Error {
  name = "CameraError";
}
