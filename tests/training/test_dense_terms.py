"""L_mesh and L_pixel as the trainer computes them, against plain loops in float64."""

from __future__ import annotations

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from retinaface_tf import build_retinaface
from retinaface_tf.config import DenseConfig, RetinaFaceConfig
from retinaface_tf.data.options import AugmentConfig
from retinaface_tf.data.pipeline import TrainingPipeline
from retinaface_tf.data.sources import LabelledSource
from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.bilinear import crop_squares
from retinaface_tf.losses.config import LossConfig
from retinaface_tf.losses.mesh_term import MeshTerm
from retinaface_tf.losses.positives import choose_positives
from retinaface_tf.mesh.topology import load_topology
from retinaface_tf.reconstruction.head import gather_cells, interpret
from retinaface_tf.training.config import OptimizerConfig
from retinaface_tf.training.step import DetectorTraining
from retinaface_tf.training.train_dense_head import begin_dense_head
from tests.helpers.meshed_faces import meshed_image

SIDE = 96
PLAIN = AugmentConfig(crop_scale=(1.0, 1.0), flip=0, photometric=0)
MANY = LossConfig(mesh_weight=0.01, mesh_positives=10_000)
HEADS = {
    "anchor": DenseConfig(rank=12, reduced=6),
    "face": DenseConfig(frame="face", grid=3, finer=1, rank=12, reduced=4, hidden=(8,)),
}


def make_network(dense: DenseConfig, **options):
    keras.utils.set_random_seed(3)
    config = RetinaFaceConfig(channels=8, dense=dense, **options)
    return build_retinaface(config)


def make_pipeline(config: RetinaFaceConfig, **options) -> TrainingPipeline:
    pairs = [meshed_image(number) for number in range(4)]
    source = LabelledSource([p[1] for p in pairs], [p[0] for p in pairs])
    options = {"size": SIDE, "batch": 2, "augment": PLAIN, **options}
    return TrainingPipeline(source, config, topology=load_topology(), **options)


@pytest.fixture(scope="module", params=HEADS)
def case(request):
    """A network, its anchors and a batch."""
    network = make_network(HEADS[request.param])
    pipeline = make_pipeline(network.config)
    begin_dense_head(network, pipeline)
    return network, pipeline.anchors, next(iter(pipeline.epoch(0)))


def loop_mesh_term(network, anchors, batch, outputs) -> np.ndarray:
    """The term of each image, one anchor, vertex and edge at a time, in float64."""
    config, dense = network.config, network.config.dense
    weights = {n: np.float64(w) for n, w in network.dense_head.named_weights.items()}
    sums = np.zeros(len(batch["image"]))
    for b in range(len(sums)):
        for a in np.flatnonzero(batch["labels"][b] == 1):
            row = batch["meshes"][b, batch["faces"][b, a]]
            if row < 0:
                continue
            anchor, wanted = np.float64(anchors[a]), np.float64(batch["vertices"][b, row])
            slot, number = 0, a
            for level in config.levels:
                cells = (SIDE // level.stride) ** 2 * len(level.anchor_sizes)
                if number < cells:
                    slot += number % len(level.anchor_sizes)
                    break
                slot, number = slot + len(level.anchor_sizes), number - cells
            if dense.frame == "anchor":
                center, size, turn, seen, base = anchor[:2], anchor[2], np.eye(2), [], 0.0
                places = [center]
                at = config.levels.index(level)
            else:
                box, points = decoded(anchor, outputs, b, a, config)
                center = (box[:2] + box[2:]) / 2
                size = np.sqrt((box[2] - box[0]) * (box[3] - box[1]))
                turn = upright_turn(points)
                inside = (points - center) @ turn / size
                base, rotation = posed(inside, weights["shape"], weights["five"])
                seen = [inside.ravel(), rotation]
                steps = dense.extent * ((np.arange(dense.grid) + 0.5) / dense.grid - 0.5)
                places = [center + size * (turn @ [x, y]) for y in steps for x in steps]
                at = max(0, config.levels.index(level) - dense.finer)
            stride = config.dense_levels[at].stride
            cells = np.float64(outputs[f"features_{stride}"][b])
            x = [bilinear(cells, place / stride - 0.5) for place in places]
            x = np.array(x) @ weights["reduce_kernel"][slot] + weights["reduce_bias"][slot]
            x = (np.maximum(x, 0) if dense.hidden else x).ravel()
            x = np.concatenate([x, *seen])
            for i in range(len(dense.hidden)):
                x = x @ weights[f"hidden{i}_kernel"] + weights[f"hidden{i}_bias"]
                x = np.concatenate([np.maximum(x, 0), *seen])
            code = x @ weights["code_kernel"] + weights["code_bias"]
            flat = (code @ weights["basis"] + weights["mean"]).reshape(-1, 3)
            found = base / config.center_variance + flat
            target = np.empty_like(wanted)
            target[:, :2] = (wanted[:, :2] - center) @ turn / size
            target[:, 2] = wanted[:, 2] / size
            sums[b] += loop_loss(found, target / config.center_variance)
    return sums


def decoded(anchor, outputs, b, a, config):
    deltas = np.float64(outputs["box_deltas"][b, a])
    points = np.float64(outputs["landmark_deltas"][b, a]).reshape(5, 2)
    center = anchor[:2] + config.center_variance * deltas[:2] * anchor[2:]
    half = anchor[2:] * np.exp(config.size_variance * deltas[2:]) / 2
    points = anchor[:2] + config.center_variance * points * anchor[2:]
    return np.concatenate([center - half, center + half]), points


def upright_turn(points):
    """The rotation that takes the upright template's directions to these points' (Kabsch)."""
    template = np.array([[-17.9, -20.0], [17.3, -20.2], [-0.2, 0.0], [-14.6, 20.6], [14.5, 20.5]])
    moved = points - points.mean(axis=0)
    cosine = (moved * template).sum()
    sine = (moved[:, 1] * template[:, 0] - moved[:, 0] * template[:, 1]).sum()
    angle = np.arctan2(sine, cosine)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def posed(points, shape, five):
    """The mean face turned so that its five points meet these, with SVDs, and the rotation."""
    shape, middle = shape.reshape(-1, 3), five.mean(axis=0)
    linear = (points - points.mean(axis=0)).T @ np.linalg.pinv((five - middle).T)
    u, scales, vt = np.linalg.svd(linear, full_matrices=False)
    two = u @ vt
    rotation = np.stack([*two, np.cross(*two)])
    scale = scales.mean()
    turned = scale * (shape - middle) @ rotation.T
    turned[:, :2] += points.mean(axis=0)
    turned[:, 2] -= scale * (five[2] - middle) @ rotation[2]
    return turned, rotation.ravel()


def bilinear(cells, place):
    x, y = (np.clip(p, 0, s - 1) for p, s in zip(place, cells.shape[1::-1]))
    left, top = int(x), int(y)
    right, bottom = min(left + 1, cells.shape[1] - 1), min(top + 1, cells.shape[0] - 1)
    x, y = x - left, y - top
    above = (1 - x) * cells[top, left] + x * cells[top, right]
    return (1 - y) * above + y * ((1 - x) * cells[bottom, left] + x * cells[bottom, right])


def loop_loss(found, target) -> float:
    found, target = found.tolist(), target.tolist()
    vertex = sum(abs(a - b) for f, t in zip(found, target) for a, b in zip(f, t)) / len(found)
    edges = []
    for corners in load_topology().triangles.tolist():
        for i, j in zip(corners, corners[1:] + corners[:1]):
            edges.append(abs(math.dist(found[i], found[j]) - math.dist(target[i], target[j])))
    return vertex + sum(edges) / len(edges)


def arrays(tensors: dict) -> dict:
    return {name: np.asarray(value) for name, value in tensors.items()}


def test_the_mesh_term_equals_plain_loops(case):
    network, anchors, batch = case
    outputs = network(batch["image"])
    # Boxes and points of a detector that sees faces, nearly: they are what frames are made of.
    for name in ("box_deltas", "landmark_deltas"):
        noise = tf.random.stateless_normal(batch[name].shape, seed=(1, 2), stddev=0.3)
        outputs[name] = batch[name] + noise
    found = MeshTerm(network, anchors, MANY, load_topology())(batch, outputs, batch)
    expected = loop_mesh_term(network, anchors, arrays(batch), arrays(outputs))
    assert (expected > 1).all()
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_an_image_has_the_same_sum_in_any_batch(case):
    """So a step is the same on any number of devices."""
    network, anchors, batch = case
    config = dataclasses.replace(MANY, mesh_positives=3)
    term = MeshTerm(network, anchors, config, load_topology())
    together = term(batch, network(batch["image"]), batch)
    for place in range(2):
        alone = {name: value[place : place + 1] for name, value in batch.items()}
        found = term(alone, network(alone["image"]), alone)
        np.testing.assert_allclose(found[0], together[place], rtol=1e-4)


def test_faces_without_a_mesh_teach_nothing(case):
    """Neither the loss nor a gradient changes with them, and a batch of only such faces is 0."""
    network, anchors, batch = case
    term = MeshTerm(network, anchors, MANY, load_topology())
    outputs = network(batch["image"])
    names = [name for name in outputs if name.startswith("features")]

    def gradients(batch):
        maps = {name: outputs[name] for name in names}
        with tf.GradientTape() as tape:
            tape.watch(maps)
            loss = tf.reduce_sum(term(batch, {**outputs, **maps}, batch))
        return float(loss), tape.gradient(loss, maps)

    loss, maps = gradients(batch)
    # The second face of each image, which has no mesh, is taken away.
    mine = batch["faces"] == 1
    without = batch | {"faces": tf.where(mine, -1, batch["faces"])}
    assert tf.reduce_any(mine)
    other, other_maps = gradients(without)
    assert loss == other
    for name in names:
        np.testing.assert_array_equal(maps[name], other_maps[name])
    nothing = batch | {"meshes": tf.fill(tf.shape(batch["meshes"]), -1)}
    loss, maps = gradients(nothing | {"vertices": batch["vertices"][:, :0]})
    assert loss == 0
    assert all(not np.any(tf.convert_to_tensor(maps[name])) for name in names)


@pytest.fixture(scope="module")
def training():
    """Both dense terms and a cascade in one step."""
    network = make_network(HEADS["anchor"], cascade=True)
    pipeline = make_pipeline(network.config)
    loss = LossConfig(mesh_weight=0.01, pixel_weight=0.01, pixel_size=16, pixel_positives=1)
    model = DetectorTraining(network, pipeline.anchors, loss, OptimizerConfig())
    model.compile(optimizer=keras.optimizers.SGD(1e-4), jit_compile=False)
    return model, pipeline


@pytest.mark.slow
def test_a_step_divides_by_all_positives_and_tells_each_term(training):
    model, pipeline = training
    batch = next(iter(pipeline.epoch(1)))
    losses, counts = model._total_loss(batch)
    before = [np.array(v) for v in model.learned]
    logs = model.train_step(batch)
    assert model.terms == ("first_class", "first_box", "class", "box", "landmark", "mesh", "pixel")
    assert float(counts["positives"]) > 0
    for name in ("mesh", "pixel"):
        expected = float(tf.reduce_sum(losses[name]))
        assert float(logs[name]) == pytest.approx(expected, rel=1e-4) and expected > 0
    assert float(logs["loss"]) == pytest.approx(
        sum(float(logs[name]) for name in model.terms), rel=1e-4
    )
    changed = {v.path for v, old in zip(model.learned, before) if not np.array_equal(v, old)}
    assert {"dense_head/basis", "dense_head/reduce_kernel"} <= changed
    assert any(path.startswith("reconstruction_head") for path in changed)


def test_the_pixel_term_is_the_mean_difference_of_the_drawn_faces(training):
    """Rows of the head's own answer, drawn one face at a time and compared pixel by pixel."""
    model, pipeline = training
    term = model.objective.pixel
    batch = next(iter(pipeline.epoch(2)))
    outputs = model._forward(batch["image"])
    found = term(batch, outputs, batch).numpy()
    expected = np.zeros(2)
    kernel, bias = (np.float64(w) for w in term.branch.get_weights())
    for b in range(2):
        positive = np.flatnonzero(batch["labels"][b] == 1)
        a = positive[len(positive) // 2]
        anchor, slot, first = pipeline.anchors[a], 0, 0
        for level in model.network.config.levels:
            columns = SIDE // level.stride
            if a < first + columns**2 * 2:
                cell, kind = divmod(a - first, 2)
                break
            slot, first = slot + 2, first + columns**2 * 2
        feature = np.float64(outputs[f"features_{level.stride}"][b]).reshape(-1, 8)[cell]
        numbers = np.float32(feature @ kernel[slot + kind] + bias[slot + kind])[None]
        crop = crop_squares(batch["image"][b : b + 1], np.zeros(1, np.int32), anchor[None], 16)
        crop = crop.numpy() / 255
        drawn = term.faces.render(interpret(tf.constant(numbers)), crop)
        total, covered = 0.0, 0.0
        for y in range(16):
            for x in range(16):
                total += np.abs(drawn.image.numpy()[0, y, x] - crop[0, y, x]).mean()
                covered += drawn.coverage.numpy()[0, y, x, 0]
        expected[b] = len(positive) * 255 * total / covered
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_the_pixel_term_takes_any_precision(training):
    model, pipeline = training
    term = model.objective.pixel
    batch = next(iter(pipeline.epoch(2)))
    outputs = model._forward(batch["image"])
    plain = term(batch, outputs, batch)
    for kind in ("bfloat16", "float64"):
        other = {name: tf.cast(value, kind) for name, value in outputs.items()}
        np.testing.assert_allclose(term(batch, other, batch), plain, rtol=0.02)


def test_the_points_and_the_prior_beside_the_pixels(training):
    """Ours: each adds its own formula, and a face without points only lacks theirs."""
    model, pipeline = training
    term = model.objective.pixel
    batch = next(iter(pipeline.epoch(2)))
    outputs = model._forward(batch["image"])
    config = term.config

    def run(targets=batch, **weights):
        term.config = dataclasses.replace(config, **weights)
        try:
            return term(batch, outputs, targets).numpy()
        finally:
            term.config = config

    positives = (batch["labels"].numpy() == 1).sum(axis=1)
    before = term.branch.get_weights()
    kernel, bias = before
    term.branch.set_weights([kernel, np.random.default_rng(5).normal(0, 0.3, bias.shape)])
    plain = run()
    gap = (run(pixel_points_weight=1.0) - plain) / positives / 255
    prior = (run(pixel_prior_weight=1.0) - plain) / positives / 255
    chosen = choose_positives(batch["faces"] >= 0, 1)
    for b, a in enumerate(chosen.anchor.numpy()):
        anchor = pipeline.anchors[a].astype(np.float64)
        five = np.float64(batch["landmarks"][b, batch["faces"][b, a]])
        inside = (five - anchor[:2]) / anchor[2:] + 0.5
        squares = tf.constant(anchor[None], tf.float32)
        maps = {n: tf.cast(v, tf.float32) for n, v in outputs.items() if n[:8] == "features"}
        features, slots = gather_cells(
            maps, term.network, [b], squares, np.int32([a]), (SIDE, SIDE)
        )
        parameters = interpret(term.branch(features, slots))
        points = term.faces.points(parameters).numpy()[0]
        expected = np.mean([np.hypot(*d) for d in points - inside])
        assert gap[b] == pytest.approx(expected, rel=1e-3) and expected > 0.01
        assert prior[b] == pytest.approx(float(np.mean(parameters.code**2)), rel=1e-3)
    nobody = batch | {"landmark_mask": tf.zeros_like(batch["landmark_mask"])}
    np.testing.assert_array_equal(run(nobody, pixel_points_weight=1.0), plain)
    term.branch.set_weights(before)


def test_images_without_faces_have_no_dense_loss(training):
    model, pipeline = training
    batch = next(iter(pipeline.epoch(1)))
    nobody = batch | {
        "labels": tf.zeros_like(batch["labels"]),
        "faces": tf.fill(tf.shape(batch["faces"]), -1),
    }
    outputs = model._forward(batch["image"])
    for term in (model.objective.mesh, model.objective.pixel):
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            loss = term(nobody, outputs, nobody)
        assert loss.numpy().tolist() == [0, 0]
        for gradient in tape.gradient(loss, outputs).values():
            assert gradient is None or not np.any(tf.convert_to_tensor(gradient))


def test_a_head_without_a_loss_is_frozen_and_a_loss_without_a_head_refused():
    network = make_network(HEADS["anchor"])
    anchors = np.zeros((1, 4))
    model = DetectorTraining(network, anchors, LossConfig(), OptimizerConfig())
    assert not any(v.path.startswith("dense_head") for v in model.learned)
    with pytest.raises(ConfigError, match=r"network\.dense"):
        DetectorTraining(make_network(None), anchors, MANY, OptimizerConfig())
