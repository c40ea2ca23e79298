"""MediaPipe's face detection (BlazeFace), by its own Python interface and the files in its wheel.

It gives six points, of which eyes and nose tip are among the five, but one point for the mouth.
"""

from answer import as_it_is, serve


def open_detector(options):
    from mediapipe.python.solutions.face_detection import FaceDetection

    model = {"short": 0, "full": 1}[options["range"]]
    opened = {}

    def detect(rgb, lowest):
        if lowest not in opened:
            opened[lowest] = FaceDetection(0.02 if lowest else 0.5, model)
        height, width = rgb.shape[:2]
        found = opened[lowest].process(rgb).detections or []
        boxes = []
        for face in found:
            box = face.location_data.relative_bounding_box
            x, y = box.xmin * width, box.ymin * height
            boxes.append((x, y, x + box.width * width, y + box.height * height))
        return boxes, [face.score[0] for face in found], None

    return as_it_is, detect


serve(open_detector, ["mediapipe", "numpy"])
