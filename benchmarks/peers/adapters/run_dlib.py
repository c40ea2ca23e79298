"""dlib: the HOG detector on the image doubled, as its examples have it, and the points of its 68-point predictor
as five. Model files are those of the package face_recognition_models."""

from importlib.util import find_spec
from pathlib import Path

from answer import as_it_is, serve


def open_detector(options):
    import dlib
    import numpy as np

    models = Path(find_spec("face_recognition_models").origin).parent / "models"
    predictor = dlib.shape_predictor(str(models / "shape_predictor_68_face_landmarks.dat"))
    hog = dlib.get_frontal_face_detector()

    def detect(rgb, lowest):
        rectangles, scores, _ = hog.run(rgb, 1, -0.5 if lowest else 0.0)
        boxes = [(r.left(), r.top(), r.right() + 1, r.bottom() + 1) for r in rectangles]
        points = []
        for rectangle in rectangles:
            parts = predictor(rgb, rectangle).parts()
            table = np.array([(p.x, p.y) for p in parts], float)
            eyes = table[36:42].mean(axis=0), table[42:48].mean(axis=0)
            points.append((*eyes, table[30], table[48], table[54]))
        return boxes, list(scores), points

    return as_it_is, detect


serve(open_detector, ["dlib-bin", "numpy"])
