"""The training pipeline: decode, augment and encode anchor targets, all inside the tf.data graph."""

import functools
from collections.abc import Callable

import tensorflow as tf

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.data.augment import load_and_augment
from retinaface_tf.data.options import AugmentConfig, MatchConfig
from retinaface_tf.data.paste import FaceCrops
from retinaface_tf.data.sources import EpochSlice, ImageSource
from retinaface_tf.data.targets import encode_targets
from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.mesh.topology import MeshTopology


class TrainingPipeline:
    """Batches of images and anchor targets, each a pure function of (seed, epoch, step).

    Order, crops, flips and colours come from stateless random numbers, so a run that stops can go
    on from its step, and two runs with one seed see the same pixels on any number of devices.

    Args:
        network: whose anchors and variances the targets have.
        size: side of the square input in pixels.
        batch: images in a global batch.
        topology: of the faces' meshes, which the batches then carry; None leaves them out.
        score_targets: batches carry what `loss.score_targets` needs of the faces' scores.
        crops: faces that are pasted into images, see `AugmentConfig.paste`.
        enlarged: factor by which images are larger than `size`, which labels and targets are for.
    """

    def __init__(
        self,
        source: ImageSource,
        network: RetinaFaceConfig,
        *,
        size: int,
        batch: int,
        augment: AugmentConfig | None = None,
        match: MatchConfig | None = None,
        seed: int = 0,
        topology: MeshTopology | None = None,
        score_targets: bool = False,
        enlarged: int = 1,
        crops: FaceCrops | None = None,
    ):
        self.source = source
        self.network = network
        self.size = size
        self.batch = batch
        self.augment = augment or AugmentConfig()
        self.match = match or MatchConfig()
        self.seed = seed
        self.topology = topology
        self.score_targets = score_targets
        self.enlarged = enlarged
        self.crops = crops
        self.anchors = generate_anchors(network.levels, size, size)

    @property
    def steps_per_epoch(self) -> int:
        """Whole global batches in an epoch; at least one, small sets then repeat images."""
        return max(1, self.source.count // self.batch)

    def epoch(
        self,
        epoch: int,
        *,
        first_step: int = 0,
        worker: int = 0,
        workers: int = 1,
        batch: int | None = None,
    ) -> tf.data.Dataset:
        """The batches of one epoch, or one worker's share of each.

        Args:
            first_step: steps before this one are left out, without reading their images.
            worker, workers: which equal share of every global batch, of how many.
            batch: images in each element; the worker's share unless given. It has to divide
                that share, for workers that feed several devices.

        Returns:
            Dataset of dicts: "image" uint8 [b, S, S, 3] with S = `size` times `enlarged`, the targets
            of `encode_targets` with the batch in front, "image_id" int64 [b]. For a network with
            cascade, or one that is matched dynamically, also the faces: "boxes" [b, F, 4],
            "landmarks" [b, F, 5, 2], "ignored" int8 [b, F] and with `score_targets` "scores" [b, F],
            empty boxes behind the last. With a topology "meshes" int32 [b, F], each face's row of
            "vertices" [b, M, V, 3] in pixels, -1 for a face without a mesh.

        Raises:
            ConfigError: the workers cannot share a batch equally.
        """
        if self.batch % workers:
            raise ConfigError(
                f"A global batch of {self.batch} images cannot be shared by {workers} workers "
                "equally; choose a multiple."
            )
        share = self.batch // workers
        part = EpochSlice(
            seed=self.seed,
            epoch=epoch,
            steps=self.steps_per_epoch,
            first_step=first_step,
            batch=self.batch,
            begin=worker * share,
            end=(worker + 1) * share,
        )

        # Fixed by the place in the epoch, whichever worker reads it.
        seed = tf.constant(part.seed * 100_003 + part.epoch, tf.int64)

        def prepare(example):
            return self._prepare(example, tf.stack([seed, example["position"]]))

        dataset = self.source.examples(part)
        dataset = dataset.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        dataset = dataset.padded_batch(batch or share, drop_remainder=True)
        options = tf.data.Options()
        # Workers cut their own share above; tf.distribute must not cut again.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)

    @functools.cached_property
    def _prepare(self) -> Callable:
        """From an example and its seed to its image and targets; traced once for all epochs."""

        augment, paste = self.augment.enlarged(self.enlarged), None
        if self.crops is not None and augment.paste:
            paste = functools.partial(self.crops.paste, config=augment)

        @tf.function
        def prepare(example, seed):
            scene = load_and_augment(
                example["encoded"],
                example["boxes"],
                example["landmarks"],
                example["ignored"],
                seed,
                self.size * self.enlarged,
                augment,
                vertices=None if self.topology is None else example["vertices"],
                mirror=() if self.topology is None else self.topology.mirror,
                scores=example["scores"] if self.score_targets else None,
                paste=paste,
            ).shrunk(self.enlarged)
            targets = encode_targets(
                scene.boxes,
                scene.landmarks,
                scene.ignored,
                self.anchors,
                self.network,
                self.match,
                scores=scene.scores if self.score_targets else None,
            )
            if self.network.cascade or self.match.dynamic:
                scores = ("scores",) if self.score_targets else ()
                for name in ("boxes", "landmarks", "ignored", *scores):
                    targets[name] = getattr(scene, name)
                # Keras adds up the first batch over devices, which booleans cannot be.
                targets["ignored"] = tf.cast(scene.ignored, tf.int8)
            if self.topology is not None:
                targets["meshes"], targets["vertices"] = _without_gaps(scene.vertices)
            return {"image": scene.image, "image_id": example["image_id"], **targets}

        return prepare


def _without_gaps(vertices) -> tuple[tf.Tensor, tf.Tensor]:
    """Each face's row [F] among the meshes there are, -1 for none, and those meshes [M, V, 3]."""
    known = tf.reduce_all(tf.math.is_finite(vertices), axis=(1, 2))
    rows = tf.where(known, tf.cumsum(tf.cast(known, tf.int32)) - 1, -1)
    return rows, tf.boolean_mask(vertices, known)
