"""The same image and gradients on the JAX backend, compiled, as on TensorFlow."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import json
import numpy as np
import keras
from keras import ops
from training.decoder.synthetic_meshes import random_albedos
from retinaface_tf.reconstruction.renderer import MeshRenderer
from retinaface_tf.mesh.topology import load_topology
from retinaface_tf.reconstruction.head import FACE_CENTER, interpret

topology = load_topology()
renderer = MeshRenderer(topology.triangles, topology.num_vertices, 32)
albedo = random_albedos(topology, 2, np.random.default_rng(0))
vertices = np.repeat((topology.mean - np.float32(FACE_CENTER))[None], 2, 0)
numbers = np.random.default_rng(1).normal(0, 0.5, (2, 16)).astype(np.float32)

def loss(vertices, numbers):
    _, camera, light = interpret(numbers)
    return ops.mean(renderer(vertices, albedo, camera, light).image ** 2)

inputs = [ops.convert_to_tensor(vertices), ops.convert_to_tensor(numbers)]
if keras.backend.backend() == "jax":
    import jax

    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(*inputs)
else:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = loss(*inputs)
    gradients = tape.gradient(value, inputs)
    gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
print(json.dumps([float(value), *(np.asarray(g).tolist() for g in gradients)]))
"""


def answer(backend: str) -> list:
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment
    )
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_jax_draws_what_tensorflow_draws():
    pytest.importorskip("jax")
    value, *gradients = answer("tensorflow")
    other, *others = answer("jax")
    assert other == pytest.approx(value, rel=1e-5)
    for gradient, same in zip(gradients, others):
        scale = np.abs(gradient).max()
        assert scale > 1e-6
        # Single pixels beside an edge may choose differently by rounding.
        close = np.abs(np.array(gradient) - same) < 1e-3 * scale
        assert close.mean() > 0.99
