"""retina-face: ResNet-50 in onnxruntime. Its weights are fetched from GitHub at the first call."""

import os

from answer import bgr, serve


def open_detector(options):
    os.environ["DEEPFACE_BACKEND_ENGINE"] = "onnx"
    os.environ["DEEPFACE_HOME"] = options["home"]
    from retinaface import RetinaFace

    def detect(image, lowest):
        faces = RetinaFace.detect_faces(image, threshold=0.02 if lowest else 0.9).values()
        # right_eye is the person's, so the image's left.
        names = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
        return (
            [f["facial_area"] for f in faces],
            [f["score"] for f in faces],
            [[f["landmarks"][name] for name in names] for f in faces],
        )

    return bgr, detect


serve(open_detector, ["retina-face", "onnxruntime", "numpy"])
