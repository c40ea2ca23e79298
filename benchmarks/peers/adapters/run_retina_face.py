"""retina-face: ResNet-50. Its weights are fetched from GitHub at the first call; where they cannot be had
its network keeps the random weights it is built with, and only its time means anything."""

import os

os.environ["DEEPFACE_BACKEND_ENGINE"] = "tensorflow"
os.environ["TF_USE_LEGACY_KERAS"] = (
    "1"  # It sets this itself, but TensorFlow is imported before it here.
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from answer import bgr, serve


def open_detector(options):
    if options.get("random"):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    else:
        os.environ["DEEPFACE_HOME"] = options["home"]
    from retinaface import RetinaFace

    if options.get("random"):
        from retinaface.model import retinaface_model

        retinaface_model.load_weights = lambda model: model

    # Random scores pass any threshold in such numbers that its suppression, loops in Python, would be
    # all that is timed; none passes 2.
    usual = 2 if options.get("random") else 0.9

    def detect(image, lowest):
        faces = RetinaFace.detect_faces(image, threshold=0.02 if lowest else usual).values()
        # right_eye is the person's, so the image's left.
        names = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
        return (
            [f["facial_area"] for f in faces],
            [f["score"] for f in faces],
            [[f["landmarks"][name] for name in names] for f in faces],
        )

    return bgr, detect


serve(open_detector, ["retina-face", "tensorflow", "tf-keras", "numpy"])
