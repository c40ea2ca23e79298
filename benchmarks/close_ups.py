"""Close-ups: is a face that fills the frame found, with and without the search for large faces?

    python benchmarks/close_ups.py [PHOTO ...] [--rounds 7]

Each photo (default: the NASA portrait that scikit-image ships) is cropped to its largest face and
enlarged to 512, 1080 and 2160 pixels. Found means a score of 0.5 and a box over 0.6 of the frame.
Then both are timed in turn on a 1920x1080 picture.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np

from retinaface_tf import RetinaFace
from retinaface_tf.inference.images import read_image

SIDES = (512, 1080, 2160)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", nargs="*")
    parser.add_argument("--preset", default="mobilenet0.25")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    detector = RetinaFace.from_preset(options.preset)
    pictures = {Path(path).stem: read_image(path) for path in options.photos}
    if not pictures:
        from skimage.data import astronaut

        pictures["astronaut"] = astronaut()
    print(f"{'photo':28s}" + "".join(f"{side:>8d} px without/with" for side in SIDES))
    for name, image in pictures.items():
        face = largest_face(detector, image)
        answers = []
        for side in SIDES:
            frame = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
            answers.append(
                "/".join(found(detector, frame, large_faces) for large_faces in (False, True))
            )
        print(f"{name[:28]:28s}" + "".join(f"{answer:>24s}" for answer in answers))
    image = cv2.resize(next(iter(pictures.values())), (1920, 1080))
    times: dict[bool, list[float]] = {False: [], True: []}
    for number in range(options.rounds + 2):
        for large_faces, seconds in times.items():
            start = time.process_time()
            detector.detect(image, large_faces=large_faces)
            if number >= 2:
                seconds.append(time.process_time() - start)
    without, with_ = (statistics.median(times[key]) for key in (False, True))
    print(
        f"1920x1080, processor time: without {1000 * without:.0f} ms, with {1000 * with_:.0f} ms "
        f"({with_ / without - 1:+.1%})"
    )


def largest_face(detector: RetinaFace, image: np.ndarray) -> np.ndarray:
    boxes = detector.detect(image).boxes
    x1, y1, x2, y2 = boxes[np.argmax(boxes[:, 2] - boxes[:, 0])]
    half = max(x2 - x1, y2 - y1) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    top, left = max(0, round(y - half)), max(0, round(x - half))
    return image[top : round(y + half), left : round(x + half)]


def found(detector: RetinaFace, frame: np.ndarray, large_faces: bool) -> str:
    faces = detector.detect(frame, size="original", large_faces=large_faces)
    side = (faces.boxes[:, 2:] - faces.boxes[:, :2]).min(axis=1, initial=1e9)
    large = faces.scores[side > 0.6 * len(frame)]
    return f"{large[0]:.2f}" if len(large) else "missed"


if __name__ == "__main__":
    main()
