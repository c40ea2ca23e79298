"""The time of a TensorFlow graph's operators, by kind."""

from __future__ import annotations

from collections import Counter

import numpy as np
import tensorflow as tf


def by_kind(function, inputs: list[np.ndarray], rounds: int, threads: int = 1) -> Counter[str]:
    """Milliseconds in each kind of operator, each operator's least of the rounds.

    Args:
        function: a concrete function without variables.
    """
    trace = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1
    )
    feed = {tensor.name: values for tensor, values in zip(function.inputs, inputs, strict=True)}
    outputs, least = [tensor.name for tensor in function.outputs], {}
    with tf.compat.v1.Session(graph=function.graph, config=config) as session:
        for _ in range(rounds):
            told = tf.compat.v1.RunMetadata()
            session.run(outputs, feed, trace, told)
            for node in (n for device in told.step_stats.dev_stats for n in device.node_stats):
                key = node.node_name, node.timeline_label.partition(" = ")[2].partition("(")[0]
                took = (node.op_end_rel_nanos - node.op_start_rel_nanos) / 1e6
                least[key] = min(took, least.get(key, took))
    kinds: Counter[str] = Counter()
    for (_, kind), took in least.items():
        kinds[kind] += took
    return kinds
