"""The dense head: where it begins, and its training on cached features (`training.dense_features`)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retinaface_tf.data.pipeline import TrainingPipeline
from retinaface_tf.errors import DataError, TrainingDiverged
from retinaface_tf.geometry.box_coding import decode_boxes
from retinaface_tf.layers.dense_frames import (
    CoordinateFrames,
    anchor_frames,
    face_frames,
    posed_shape,
    to_frames,
)
from retinaface_tf.layers.dense_head import DenseHead
from retinaface_tf.losses.mesh_term import edge_loss, vertex_loss
from retinaface_tf.losses.positives import choose_positives, rows_of_anchors
from retinaface_tf.mesh.topology import MeshTopology, five_of_vertices
from retinaface_tf.models import RetinaFaceNetwork
from retinaface_tf.training.dense_features import DenseExamples
from retinaface_tf.util.options import MAX_SEED, check_range

# Positives that `begin_dense_head` uses, in all and of each image.
_POSITIVES, _OF_IMAGE = 1000, 4


@dataclass(frozen=True, kw_only=True)
class DenseHeadTraining:
    """How the head learns.

    Attributes:
        epochs, batch: passes over the examples, examples in a step.
        learning_rate: of Adam, at its height; rises over the first twentieth, then falls as a
            cosine to a hundredth.
        weight_decay: decoupled, of all kernels but the last layer's.
        edge_weight: lambda_0.
        noise: standard deviation added to the features, in their own.
        point_noise: standard deviation added to the five points, in frame sizes.
        seed: of order and noise.
    """

    epochs: int = 30
    batch: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    edge_weight: float = 1.0
    noise: float = 0.0
    point_noise: float = 0.0
    seed: int = 0

    def __post_init__(self):
        check_range(self, "", "epochs batch", 1)
        check_range(self, "", "learning_rate weight_decay edge_weight noise point_noise", 0)
        check_range(self, "", "seed", 0, MAX_SEED)


def begin_dense_head(network: RetinaFaceNetwork, pipeline: TrainingPipeline) -> None:
    """Starts the head at the mean of its targets, and at the directions in which they vary.

    A function of the run's seed alone, so it is the same in every process. Where an epoch shows no
    face with a mesh the head stays as it is.
    """
    targets, points = [], []
    for batch in pipeline.epoch(0):
        frames, vertices = _faces(batch, network, pipeline.anchors)
        if frames.points is not None:
            points.append(frames.points)
        targets.append(to_frames(vertices, frames))
        if sum(map(len, targets)) >= _POSITIVES:
            break
    if not sum(map(len, targets)):
        return
    begin_at_principal_directions(
        network.dense_head,
        np.concatenate(targets),
        np.concatenate(points) if points else None,
        pipeline.topology,
    )


def _faces(batch, network: RetinaFaceNetwork, anchors) -> tuple[CoordinateFrames, np.ndarray]:
    """The frames a perfect detector would give some positives, and their vertices in pixels."""
    config = network.config
    rows = rows_of_anchors(batch["faces"], batch["meshes"])
    chosen = choose_positives(rows >= 0, _OF_IMAGE)
    vertices = chosen.take(batch["vertices"], chosen.take(rows)).numpy()
    own = anchors[chosen.anchor.numpy()]
    if config.dense.frame == "anchor":
        return anchor_frames(own), vertices
    deltas = chosen.take(batch["box_deltas"]).numpy()
    boxes = decode_boxes(deltas, own, config.center_variance, config.size_variance)
    return face_frames(boxes, five_of_vertices(vertices)[..., :2]), vertices


def begin_at_principal_directions(
    head: DenseHead, targets: np.ndarray, points: np.ndarray | None, topology: MeshTopology
) -> None:
    """Lets a head begin at the mean of labelled faces and the directions in which they differ.

    Args:
        head: changed in place.
        targets: [N, V, 3] vertices in their frames.
        points: [N, 10] five points in the frames, for a head that sees them; else None.
    """
    rest = targets.astype(np.float32)
    if head.config.frame == "face":
        five = five_of_vertices(topology.mean)
        head.set_shape(topology.mean, five)
        rest = rest - posed_shape(points.reshape(-1, 5, 2), five, topology.mean)[0]
    mean, basis = principal_directions(rest, head.config.rank)
    # The basis lies in the deltas' units: sizes of the coordinate frame over the variance.
    head.set_basis(mean / head.variance, basis / head.variance)


def principal_directions(targets: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean [V, 3] of faces [N, V, 3], and the directions [rank, V, 3] of most variance.

    Each is scaled by the standard deviation along it, so that codes are of size 1; with fewer faces
    than directions the last ones are zero.
    """
    flat = targets.reshape(len(targets), -1).astype(np.float32)
    mean = flat.mean(axis=0)
    centered = flat - mean
    shape = targets.shape[1:]
    if len(flat) < centered.shape[1]:
        # The smaller of the two matrices that have these eigenvalues.
        values, mixtures = np.linalg.eigh(centered @ centered.T / len(flat))
        order = np.argsort(values)[::-1][:rank]
        found = mixtures[:, order].T @ centered / np.sqrt(len(flat))
        basis = np.zeros((rank, centered.shape[1]), np.float32)
        basis[: len(found)] = found
        return mean.reshape(shape), basis.reshape(rank, *shape)
    values, vectors = np.linalg.eigh(centered.T @ centered / len(flat))
    order = np.argsort(values)[::-1][:rank]
    scale = np.sqrt(np.maximum(values[order], 1e-12))
    return mean.reshape(shape), (vectors[:, order] * scale).T.reshape(rank, *shape)


def train_dense_head(
    network: RetinaFaceNetwork,
    examples: DenseExamples,
    topology: MeshTopology,
    config: DenseHeadTraining,
    progress: Callable[[int, dict], object] | None = None,
) -> list[dict]:
    """Trains the head in place; the rest of the network is not touched.

    Args:
        network: with a dense branch.
        examples: the head learns from those that are not held out.
        progress: called after each epoch with its number and its figures.

    Returns:
        Each epoch's figures: "vertex" and "edge" loss in frame sizes, and, where some examples are
        held out, their "held_out" vertex loss.

    Raises:
        DataError: every example is held out.
        TrainingDiverged: the loss is not a number.
    """
    import keras
    import tensorflow as tf

    head = network.dense_head
    learn, held_out = examples.keep(~examples.held_out), examples.keep(examples.held_out)
    if not len(learn):
        raise DataError("Every example is held out; label more photos.")
    batch = min(config.batch, len(learn))
    rng = np.random.default_rng(config.seed)
    chosen = rng.permutation(len(learn))[:4000]
    sees_points = network.config.dense.frame == "face"
    begin_at_principal_directions(head, learn.targets[chosen], learn.points[chosen], topology)

    steps = config.epochs * (len(learn) // batch)
    warm = max(1, steps // 20)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        max(1, steps - warm),
        alpha=0.01,
        warmup_target=config.learning_rate,
        warmup_steps=warm,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay, clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "basis", "mean"])
    variables = head.trainable_variables
    optimizer.build(variables)
    triangles = tf.constant(topology.triangles)
    spread = tf.constant(learn.samples[chosen].astype(np.float32).std(axis=(0, 1)))

    def predict(samples, points, slots):
        return head(samples, points if sees_points else None, slots)

    @tf.function(jit_compile=False)
    def step(samples, points, slots, targets):
        samples = tf.cast(samples, tf.float32)
        targets = tf.cast(targets, tf.float32)
        if config.noise:
            samples += config.noise * spread * tf.random.normal(tf.shape(samples))
        if config.point_noise:
            points += config.point_noise * tf.random.normal(tf.shape(points))
        with tf.GradientTape() as tape:
            found = predict(samples, points, slots)
            vertex = tf.reduce_mean(vertex_loss(found, targets))
            # The most expensive term, of a quarter of the faces: the same on average.
            few = max(1, batch // 4)
            edge = tf.reduce_mean(edge_loss(found[:few], targets[:few], triangles))
            loss = vertex + config.edge_weight * edge
        gradients = tape.gradient(loss, [v.value for v in variables])
        optimizer.apply(gradients, variables)
        return vertex, edge

    @tf.function
    def measure(samples, points, slots, targets):
        found = predict(tf.cast(samples, tf.float32), points, slots)
        return vertex_loss(found, tf.cast(targets, tf.float32))

    # Faces seen from the side are rare in photos; they are drawn as often as the root of their share.
    chance = _evened(learn.points) if sees_points else None
    history = []
    for epoch in range(config.epochs):
        order = rng.permutation(rng.choice(len(learn), len(learn), p=chance))
        starts = range(0, len(order) - batch + 1, batch)
        losses = [step(*_arrays(learn, order[start : start + batch])) for start in starts]
        figures = dict(zip(("vertex", "edge"), np.mean(losses, axis=0, dtype=float).tolist()))
        if not np.isfinite(figures["vertex"] + figures["edge"]):
            raise TrainingDiverged("The dense head's loss is not a number; lower learning_rate.")
        if len(held_out):
            parts = np.split(np.arange(len(held_out)), range(512, len(held_out), 512))
            values = [measure(*_arrays(held_out, part)).numpy() for part in parts]
            figures["held_out"] = float(np.concatenate(values).mean())
        history.append(figures)
        if progress:
            progress(epoch, figures)
    return history


def _arrays(examples: DenseExamples, part: np.ndarray):
    import tensorflow as tf

    names = ("samples", "points", "slots", "targets")
    return [tf.constant(getattr(examples, name)[part]) for name in names]


def _evened(points: np.ndarray) -> np.ndarray:
    """float64 [N] chances that make faces even in how far their five points are turned aside."""
    points = points.reshape(-1, 5, 2)
    eyes, mouth = points[:, :2].mean(axis=1), points[:, 3:].mean(axis=1)
    across = np.abs(points[:, 2, 0] - (eyes[:, 0] + mouth[:, 0]) / 2)
    kind = np.minimum((across / 0.06).astype(int), 7)
    count = np.bincount(kind, minlength=8)
    chance = 1 / np.sqrt(count[kind])
    return chance / chance.sum()
