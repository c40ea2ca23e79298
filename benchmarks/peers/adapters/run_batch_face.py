"""batch-face: the PyTorch RetinaFace with MobileNet-0.25. Its own weights are fetched from GitHub.

It asks for RGB images; the weights used here learned from BGR, and find far fewer faces in RGB.
"""

from answer import bgr, serve


def open_detector(options):
    import torch
    from batch_face import RetinaFace

    torch.set_num_threads(1)
    detector = RetinaFace(gpu_id=-1, model_path=options["model"], return_dict=True)

    def detect(image, lowest):
        faces = detector(image, threshold=0.02 if lowest else 0.5)
        return tuple([face[name] for face in faces] for name in ("box", "score", "kps"))

    return bgr, detect


serve(open_detector, ["batch-face", "torch", "numpy"])
