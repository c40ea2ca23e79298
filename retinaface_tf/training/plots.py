"""What a run shows of itself: a sheet of detections, the precision-recall plot, the learning plot."""

from collections.abc import Sequence

import numpy as np

from retinaface_tf.config import DetectionSettings
from retinaface_tf.evaluation.plots import new_figure
from retinaface_tf.faces.drawing import draw_faces, fit_into
from retinaface_tf.losses.config import DENSE_TERMS, DISTILLATION_TERMS, OWN_TERMS, TERMS
from retinaface_tf.training.evaluation import Evaluation, Evaluator

TRUTH_COLOR = (255, 255, 255)


def detection_sheet(evaluator: Evaluator, evaluation: Evaluation) -> np.ndarray:
    """Up to 16 held-out images with labelled faces in white and detections in colour.

    Returns:
        uint8 RGB [rows * 256, columns * 256, 3].
    """
    import cv2

    images = evaluator.validation.images
    count, side = min(16, len(images)), 256
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    tiles = np.zeros((rows * columns, side, side, 3), np.uint8)
    for place in range(count):
        index = place * len(images) // count
        faces = evaluation.faces[index]
        image = evaluator.image(index).copy()
        for box in images[index].boxes:
            corners = [round(float(v)) for v in box]
            cv2.rectangle(image, corners[:2], corners[2:], TRUTH_COLOR, 1, cv2.LINE_AA)
        image = draw_faces(image, faces[faces.scores >= DetectionSettings.threshold])
        tiles[place] = fit_into(image, side, side, 0)
    grid = tiles.reshape(rows, columns, side, side, 3).swapaxes(1, 2)
    return grid.reshape(rows * side, columns * side, 3)


def side_by_side(sheets: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
    """Sheets of one height beside each other, each under its caption, uint8 RGB."""
    import cv2

    columns = []
    for sheet, caption in zip(sheets, captions):
        head = np.zeros((28, sheet.shape[1], 3), np.uint8)
        scale = min(0.6, sheet.shape[1] / 700)
        cv2.putText(
            head, caption, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, scale, TRUTH_COLOR, 1, cv2.LINE_AA
        )
        columns.append(np.concatenate([head, sheet]))
    height = max(column.shape[0] for column in columns)
    columns = [np.pad(c, ((0, height - len(c)), (0, 8), (0, 0))) for c in columns]
    return np.concatenate(columns, axis=1)


def precision_recall_plot(evaluation: Evaluation) -> np.ndarray:
    """The curve of an evaluation, uint8 RGB."""
    figure, (axes,) = new_figure(7, 4.5)
    axes.plot(evaluation.curve.recall, evaluation.curve.precision)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title(f"average precision {evaluation.average_precision:.4f} at IoU 0.5")
    return _pixels(figure)


def learning_plot(rows: list[dict]) -> np.ndarray:
    """Loss and average precision over the epochs (rows of the run's CSV file), uint8 RGB."""
    figure, (axes,) = new_figure(7, 4.5)
    trained = [row for row in rows if row.get("loss") is not None]
    for term in ("loss", *TERMS, *DENSE_TERMS, *DISTILLATION_TERMS, *OWN_TERMS):
        if any(row.get(term) is None for row in trained):
            continue
        axes.plot(
            [r["epoch"] for r in trained], [r[term] for r in trained], label=term, lw=1, marker="."
        )
    axes.set(xlabel="epochs done", ylabel="training loss")
    axes.set_ylim(bottom=0)
    evaluated = [row for row in rows if row.get("average_precision") is not None]
    right = axes.twinx()
    points = [r["epoch"] for r in evaluated], [r["average_precision"] for r in evaluated]
    right.plot(*points, "k.-", label="average precision")
    if len(evaluated) > 1 and not evaluated[0]["epoch"]:
        before, after = (evaluated[i]["average_precision"] for i in (0, -1))
        right.axhline(before, color="k", ls=":", lw=1, label="before")
        axes.set_title(f"average precision {before:.4f} before, {after:.4f} after")
    right.set(ylabel="average precision, held-out images", ylim=(0, 1.02))
    lines = [*axes.get_lines(), *right.get_lines()]
    right.legend(lines, [line.get_label() for line in lines], loc="center right")
    return _pixels(figure)


def _pixels(figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
