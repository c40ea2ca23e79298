"""OpenCV's Haar cascade for frontal faces, on the grey image. Scores are its last stage's weights."""

from answer import serve


def open_detector(options):
    import cv2

    cv2.setNumThreads(1)
    folder = cv2.data.haarcascades
    cascade = cv2.CascadeClassifier(folder + "haarcascade_frontalface_default.xml")

    def prepare(rgb):
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)

    def detect(grey, lowest):
        # 1.1 and 3 are its defaults; with no neighbours asked for, more and worse faces come.
        boxes, _, weights = cascade.detectMultiScale3(
            grey, scaleFactor=1.1, minNeighbors=1 if lowest else 3, outputRejectLevels=True
        )
        corners = [(x, y, x + w, y + h) for x, y, w, h in boxes]
        return corners, weights, None

    return prepare, detect


serve(open_detector, ["opencv-python", "numpy"])
