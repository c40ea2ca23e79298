"""facenet-pytorch's MTCNN. For a whole curve the last stage's threshold alone is lowered."""

from answer import as_it_is, serve


def open_detector(options):
    import torch
    from facenet_pytorch import MTCNN

    torch.set_num_threads(1)
    usual = MTCNN(keep_all=True, device="cpu")
    low = MTCNN(keep_all=True, device="cpu", thresholds=[0.6, 0.7, 0.02])

    def detect(rgb, lowest):
        boxes, scores, points = (low if lowest else usual).detect(rgb, landmarks=True)
        return ([], [], []) if boxes is None else (boxes, scores, points)

    return as_it_is, detect


serve(open_detector, ["facenet-pytorch", "torch", "numpy"])
