"""OpenCV's FaceDetectorYN with a YuNet file."""

from answer import bgr, serve


def open_detector(options):
    import cv2

    cv2.setNumThreads(1)
    network = cv2.FaceDetectorYN.create(options["model"], "", (320, 320), 0.5, 0.4, 5000)

    def detect(image, lowest):
        network.setScoreThreshold(0.02 if lowest else 0.5)
        network.setInputSize((image.shape[1], image.shape[0]))
        faces = network.detect(image)[1]
        if faces is None:
            return [], [], []
        boxes = faces[:, :4].copy()
        boxes[:, 2:] += boxes[:, :2]
        # The person's right eye first, so the image's left.
        return boxes, faces[:, 14], faces[:, 4:14].reshape(-1, 5, 2)

    return bgr, detect


serve(open_detector, ["opencv-python", "numpy"])
