"""A small training run on a Ray cluster of two nodes, one of which dies: `python -m tests.helpers.ray_run OUT JSON`."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ray.cluster_utils import Cluster

from retinaface_tf.training.ray_train import train_on_ray
from retinaface_tf.util.ray_cluster import ray_cluster
from tests.helpers.small_run import small_config


def main(folder: Path, changes: dict) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    other = cluster.add_node(num_cpus=1)
    with ray_cluster(cluster.address), ThreadPoolExecutor(1) as pool:
        run = pool.submit(train_on_ray, small_config(**changes), folder, workers=2, restarts=2)
        while not run.done() and not list((folder / "checkpoints").glob("step-00000000[1234].npz")):
            time.sleep(0.02)
        cluster.remove_node(other, allow_graceful=False)
        print("killed a node", flush=True)
        cluster.add_node(num_cpus=1)
        print(f"{run.result().steps} steps", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
