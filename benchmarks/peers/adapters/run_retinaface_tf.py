"""This project: a preset, as `RetinaFace.from_preset` opens it."""

from answer import as_it_is, serve


def open_detector(options):
    from retinaface_tf import RetinaFace

    preset, settings = options.pop("preset", "lite"), options.pop("settings", {})
    detector = RetinaFace.from_preset(preset, **{"runtime": "litert"} | options, threads=1)

    def detect(rgb, lowest):
        faces = detector.detect(rgb, threshold=0.02 if lowest else 0.5, **settings)
        return faces.boxes, faces.scores, faces.landmarks

    return as_it_is, detect


serve(open_detector, ["retinaface-tf", "ai-edge-litert", "numpy"])
