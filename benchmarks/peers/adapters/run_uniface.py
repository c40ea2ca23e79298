"""uniface's RetinaFace at its default input of 640x640; weights are fetched from GitHub where `home` has none."""

import os

from answer import bgr, serve


def open_detector(options):
    os.environ["UNIFACE_CACHE_DIR"] = options["home"]
    import onnxruntime
    from uniface import RetinaFace
    from uniface.constants import RetinaFaceWeights

    detector = RetinaFace(model_name=RetinaFaceWeights.MNET_025)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    detector.session = onnxruntime.InferenceSession(detector._model_path, settings)

    def detect(image, lowest):
        detector.confidence_threshold = 0.02 if lowest else 0.5
        faces = detector.detect(image)
        return (
            [face.bbox for face in faces],
            [face.confidence for face in faces],
            [face.landmarks for face in faces],
        )

    return bgr, detect


serve(open_detector, ["uniface", "onnxruntime", "numpy"])
