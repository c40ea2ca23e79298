/** The camera's stream, or a sentence on why there is none. */

import { CameraError } from "./errors.js";

const MESSAGES = /** @type {Record<string, string>} */ ({
  NotAllowedError:
    "The camera is not allowed: permit it for this page (the camera sign beside the address, or the browser's settings), then try again.",
  NotFoundError: "No camera was found: connect one, then try again, or choose a photo.",
  NotReadableError: "The camera cannot be used now, another program may hold it: close that program, then try again.",
  OverconstrainedError: "The camera offers no picture this page can use: try another camera, or choose a photo.",
});

/**
 * @param {"user" | "environment"} facing which camera of a phone
 * @returns {Promise<MediaStream>}
 * @throws {CameraError}
 */
export async function openCamera(facing) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new CameraError(
      "Browsers give the camera to https pages and to localhost alone: open this page from one of those, or choose a photo.",
    );
  }
  try {
    const size = { width: { ideal: 640 }, height: { ideal: 480 } };
    return await navigator.mediaDevices.getUserMedia({ audio: false, video: { facingMode: facing, ...size } });
  } catch (error) {
    const { name, message } = /** @type {DOMException} */ (error);
    throw new CameraError(MESSAGES[name] ?? `The camera did not start (${message}): try again, or choose a photo.`);
  }
}

/** @param {MediaStream} stream */
export function closeCamera(stream) {
  for (const track of stream.getTracks()) track.stop();
}

/** Whether there is more than one camera to choose from; known once a camera was allowed. */
export async function hasSeveralCameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter(({ kind }) => kind === "videoinput").length > 1;
}
