"""Ultra-Light (version-RFB-640) by the PyPI package `ultralight`: every image stretched to 640x480."""

from answer import bgr, serve


def open_detector(options):
    import onnxruntime
    from ultralight import UltraLightDetector

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(options["model"], settings)
    usual, low = (
        _with_session(UltraLightDetector, session, options["model"], threshold)
        for threshold in (0.5, 0.02)
    )

    def detect(image, lowest):
        boxes, scores = (low if lowest else usual).detect_one(image)
        return boxes, scores, None

    return bgr, detect


def _with_session(kind, session, path, threshold):
    """The package opens its session without settings; this gives it ours, of one thread."""

    class Detector(kind):
        @classmethod
        def _create_session(cls, *_):
            return session

    return Detector(size=640, batched=False, path=path, score_threshold=threshold)


serve(open_detector, ["ultralight", "onnxruntime", "numpy"])
