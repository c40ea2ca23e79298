"""The files for SLURM and Kubernetes, against their schema, stand-ins and the launcher's own list."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from retinaface_tf.launch.hosts import read_hosts

TRAINING = Path(__file__).resolve().parents[2] / "training"


@pytest.fixture(scope="module")
def documents():
    yaml = pytest.importorskip("yaml")
    text = (TRAINING / "kubernetes" / "training.yaml").read_text()
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def test_kubernetes_accepts_its_files(documents):
    validator = pytest.importorskip("kubernetes_validate")
    assert set(documents) == {"ConfigMap", "Service", "Job"}
    for document in documents.values():
        validator.validate(document, "1.33", strict=True)
        with pytest.raises(validator.ValidationError):
            validator.validate({**document, "specification": {}}, "1.33", strict=True)


def test_the_hosts_are_the_pods_of_the_job(documents, tmp_path):
    path = tmp_path / "hosts.txt"
    path.write_text(documents["ConfigMap"]["data"]["hosts.txt"])
    workers = read_hosts(path)
    job, service = documents["Job"], documents["Service"]
    assert len(workers) == job["spec"]["completions"] == job["spec"]["parallelism"]
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    for worker in workers:
        expected = f"{job['metadata']['name']}-{worker.rank}.{service['metadata']['name']}"
        assert worker.host == expected
        assert worker.port == service["spec"]["ports"][0]["port"]


def run(command, tmp_path, **environment):
    """Where `retinaface-tf` shows its arguments."""
    for name, text in {
        "retinaface-tf": 'printf "%s|" "$@"; echo',
        "scontrol": '[ "$*" = "show hostnames node[1-2]" ] && printf "node1\\nnode2\\n"',
        "srun": 'shift; for i in 0 1; do SLURM_PROCID=$i "$@"; done',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    return subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


def test_a_pod_is_the_worker_of_its_index(documents, tmp_path):
    (container,) = documents["Job"]["spec"]["template"]["spec"]["containers"]
    (line,) = run(container["command"], tmp_path, JOB_COMPLETION_INDEX="1")
    assert line.startswith("launch|--hosts|/etc/training/hosts.txt|--rank|1|--|--config|")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_a_task_of_slurm_is_the_worker_of_its_number(tmp_path):
    lines = run(
        ["bash", str(TRAINING / "slurm" / "train.sbatch"), "--out", "a b"],
        tmp_path,
        SLURM_JOB_ID="7",
        SLURM_JOB_NODELIST="node[1-2]",
    )
    assert lines == [f"launch|--hosts|hosts-7.txt|--rank|{rank}|--|--out|a b|" for rank in range(2)]
    assert [w.host for w in read_hosts(tmp_path / "hosts-7.txt")] == ["node1", "node2"]
