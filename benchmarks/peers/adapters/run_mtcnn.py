"""mtcnn: the cascade in TensorFlow. For a whole curve the last stage's threshold alone is lowered."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from answer import as_it_is, serve


def open_detector(options):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from mtcnn import MTCNN

    detector = MTCNN()

    def detect(rgb, lowest):
        more = {"threshold_onet": 0.02} if lowest else {}
        faces = detector.detect_faces(rgb, box_format="xyxy", **more)
        # Its left is the image's.
        names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
        return (
            [f["box"] for f in faces],
            [f["confidence"] for f in faces],
            [[f["keypoints"][name] for name in names] for f in faces],
        )

    return as_it_is, detect


serve(open_detector, ["mtcnn", "tensorflow", "numpy"])
