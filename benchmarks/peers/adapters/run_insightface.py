"""insightface's detector (SCRFD or RetinaFace of its model zoo), fetched from GitHub at the first call."""

from answer import bgr, serve


def open_detector(options):
    from insightface.app import FaceAnalysis

    app = FaceAnalysis(name=options["pack"], root=options["root"], allowed_modules=["detection"])
    app.prepare(ctx_id=-1, det_thresh=0.02, det_size=(640, 640))

    def detect(image, lowest):
        app.det_model.det_thresh = 0.02 if lowest else 0.5
        faces = app.get(image)
        return [f.bbox for f in faces], [f.det_score for f in faces], [f.kps for f in faces]

    return bgr, detect


serve(open_detector, ["insightface", "onnxruntime", "numpy"])
