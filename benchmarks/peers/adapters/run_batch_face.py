"""batch-face: the PyTorch RetinaFace with MobileNet-0.25. Its own weights are fetched from GitHub."""

from answer import as_it_is, serve


def open_detector(options):
    import torch
    from batch_face import RetinaFace

    torch.set_num_threads(1)
    detector = RetinaFace(gpu_id=-1, model_path=options["model"], return_dict=True)

    def detect(rgb, lowest):
        faces = detector(rgb, threshold=0.02 if lowest else 0.5)
        return tuple([face[name] for face in faces] for name in ("box", "score", "kps"))

    return as_it_is, detect


serve(open_detector, ["batch-face", "torch", "numpy"])
