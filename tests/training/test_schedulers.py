"""The files for SLURM and Kubernetes, against a schema and a stand-in for srun."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retinaface_tf.cli import with_commands
from retinaface_tf.errors import RetinaFaceError

TRAINING = Path(__file__).resolve().parents[2] / "training"


def test_kubernetes_accepts_the_pods_of_the_job(tmp_path):
    yaml, validator = pytest.importorskip("yaml"), pytest.importorskip("kubernetes_validate")
    job = yaml.safe_load((TRAINING / "kubernetes" / "training.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "TFJob")
    (replicas,) = job["spec"]["tfReplicaSpecs"].values()
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, **replicas["template"]}
    validator.validate(pod, "1.33", strict=True)
    with pytest.raises(validator.ValidationError):
        validator.validate({**pod, "specification": {}}, "1.33", strict=True)
    (container,) = pod["spec"]["containers"]
    assert container["name"] == "tensorflow"  # where the operator puts TF_CONFIG
    _, *train = container["command"]
    # Every option of the command exists: what ends it is the folder, which is not here.
    words = [word.replace("=/", f"={tmp_path}/") for word in (*train, *container["args"])]
    answer = CliRunner().invoke(with_commands(), words)
    assert isinstance(answer.exception, RetinaFaceError) and "/data" in str(answer.exception)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_srun_starts_the_training_of_each_task(tmp_path):
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    srun.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    line = subprocess.run(
        ["bash", str(TRAINING / "slurm" / "train.sbatch"), "--out", "a b"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert line == "--kill-on-bad-exit=1|retinaface-tf|train|--engine|slurm|--out|a b|"
