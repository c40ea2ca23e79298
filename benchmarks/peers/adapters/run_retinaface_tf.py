"""This project: a preset, or exported files; of several the smallest frame an image fits into."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from answer import as_it_is, serve


def answer(faces):
    return faces.boxes, faces.scores, faces.landmarks


def open_detector(options):
    from retinaface_tf import RetinaFace

    if options["runtime"] == "keras":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    if options["runtime"] == "grpc":
        import cv2

        detector = RetinaFace.from_endpoint(options["server"])

        def encode(rgb):
            """A server takes files; PNG keeps the pixels. That it decodes is part of its time."""
            return cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()

        def ask(file, lowest):
            return answer(detector.detect(file, threshold=0.02 if lowest else 0.5))

        return encode, ask
    threads = None if options["runtime"] == "keras" else 1
    if "frames" not in options:
        whole = RetinaFace.from_preset(
            options["preset"], runtime=options["runtime"], threads=threads
        )
        opened = {None: whole}
    else:
        opened = {}

    def fitting(rgb):
        if None in opened:
            return opened[None]
        height, width = rgb.shape[:2]
        frames = sorted(options["frames"], key=lambda f: f["width"] * f["height"])
        fits = [f for f in frames if width <= f["width"] and height <= f["height"]]
        frame = (fits or frames[-1:])[0]["file"]
        if frame not in opened:
            opened[frame] = RetinaFace.from_file(frame, threads=threads)
        return opened[frame]

    def detect(rgb, lowest):
        return answer(fitting(rgb).detect(rgb, threshold=0.02 if lowest else 0.5))

    return as_it_is, detect


serve(open_detector, ["tensorflow", "keras", "ai-edge-litert", "numpy"])
