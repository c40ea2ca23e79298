"""`retinaface-tf evaluate mesh`."""

from pathlib import Path
from typing import Annotated

import typer

from retinaface_tf.cli.evaluation_run import Json, files_read, show
from retinaface_tf.cli.options import Model, Overwrite, Runtime, Size, Threshold
from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import DataError
from retinaface_tf.util.files import is_folder, require_free


def mesh(
    gt: Annotated[
        Path,
        typer.Option(
            help="Truth: a folder of AFLW2000-3D's .mat files and images, or of the labels "
            "`data label-mesh` wrote."
        ),
    ],
    preset: Annotated[
        str, typer.Option(help="Network with a dense branch.")
    ] = "mobilenet0.25-mesh",
    model: Model = None,
    runtime: Runtime = "auto",
    threshold: Threshold = DetectionSettings.threshold,
    size: Size = None,
    landmark_model: Annotated[
        Path | None,
        typer.Option(help="MediaPipe's face_landmark.tflite, measured too; 'auto' fetches it."),
    ] = None,
    held_out: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of labelled photos held out from training; 1 is all."
        ),
    ] = 0.1,
    json: Json = None,
    overwrite: Overwrite = False,
) -> None:
    """Error of the vertices by sqrt(W*H) of the face and of the head's pose, beside mean faces."""
    import json as codec

    import numpy as np

    from retinaface_tf.cli.open_detector import open_detector
    from retinaface_tf.cli.output import write_text
    from retinaface_tf.data.readers.mesh_labels import MeshLabelConfig, read_mesh_labels
    from retinaface_tf.evaluation.mesh import measure_aflw2000, measure_labels, read_aflw2000
    from retinaface_tf.inference.preprocess import parse_size
    from retinaface_tf.mesh.topology import load_topology
    from retinaface_tf.training.dense_features import held_out_photos
    from retinaface_tf.util.progress import rich_progress

    if json is not None:
        require_free(json, files_read([gt]), overwrite=overwrite)
    settings = DetectionSettings(threshold=threshold, size=parse_size(size))
    detector = open_detector(preset, model, runtime, settings=settings)
    topology = load_topology()
    if is_folder(gt) and any(gt.glob("*.mat")):
        from retinaface_tf.mesh.landmark_model import FaceLandmarkModel
        from retinaface_tf.util.process import to_stderr
        from retinaface_tf.weights.landmark_model import pull_landmark_model

        faces = read_aflw2000(gt)
        mediapipe = None
        if landmark_model is not None:
            fetched = str(landmark_model) == "auto"
            path = pull_landmark_model(notify=to_stderr) if fetched else landmark_model
            mediapipe = FaceLandmarkModel(path)
        with rich_progress("measuring", len(faces)) as advance:
            errors = measure_aflw2000(faces, detector, topology, mediapipe, advance)
        photos = len(faces)
    else:
        labels = read_mesh_labels(gt, MeshLabelConfig())
        labels = labels.keep(held_out_photos(labels.images, held_out)[labels.image])
        photos = len(np.unique(labels.image))
        if not photos:
            raise DataError(f"{gt} has no labelled face on a photo that is held out.")
        with rich_progress("measuring", photos) as advance:
            errors = measure_labels(labels, detector, topology, advance)
    order = ("vertex", "points_2d", "points_3d", "yaw", "pitch", "roll")
    rows, figures = [], {}
    for method in errors.methods:
        values = {
            kind: float(100 * np.nanmean(getattr(errors, kind)[method]))
            for kind in ("vertex", "points_2d", "points_3d")
            if method in getattr(errors, kind)
        }
        angles = np.nanmean(errors.angles[method], axis=0)
        values |= dict(zip(("yaw", "pitch", "roll"), angles.tolist()))
        figures[method] = values
        rows.append([method, *(f"{values[k]:.2f}" if k in values else "-" for k in order)])
    show(
        f"{errors.found()} of {errors.faces} faces found on {photos} photos; errors in % of "
        "sqrt(W*H), angles in degrees",
        ["", "all vertices 3D", "68 points 2D", "68 points 3D", "yaw", "pitch", "roll"],
        rows,
    )
    if json is not None:
        document = {"faces": errors.faces, "found": errors.found(), "methods": figures}
        write_text(json, codec.dumps(document, indent=2) + "\n")
