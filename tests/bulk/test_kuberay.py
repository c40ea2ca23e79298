"""The RayJob under serving/kuberay against Kubernetes' schema of pods and the names of KubeRay's types."""

import copy
import re
import shlex
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")
FOLDER = Path(__file__).resolve().parent.parent.parent / "serving" / "kuberay"

# Fields of the Go types RayJobSpec, RayClusterSpec, HeadGroupSpec and WorkerGroupSpec (ray.io/v1).
FIELDS = {
    "job": "activeDeadlineSeconds backoffLimit rayClusterSpec submitterPodTemplate metadata "
    "clusterSelector submitterConfig managedBy deletionStrategy entrypoint runtimeEnvYAML jobId "
    "submissionMode entrypointResources entrypointNumCpus entrypointNumGpus ttlSecondsAfterFinished "
    "shutdownAfterJobFinishes suspend",
    "cluster": "headGroupSpec workerGroupSpecs rayVersion enableInTreeAutoscaling autoscalerOptions "
    "headServiceAnnotations suspend",
    "head": "serviceType headService enableIngress rayStartParams template",
    "workers": "groupName replicas minReplicas maxReplicas numOfHosts rayStartParams template "
    "scaleStrategy",
}


def job():
    return yaml.safe_load((FOLDER / "rayjob.yaml").read_text())


def groups(job):
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def validate(job):
    """Raises for what KubeRay or Kubernetes would refuse."""
    validator = pytest.importorskip("kubernetes_validate")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job) == {"apiVersion", "kind", "metadata", "spec"}
    cluster = job["spec"]["rayClusterSpec"]
    for kind, values in (("job", job["spec"]), ("cluster", cluster)):
        assert set(values) <= set(FIELDS[kind].split())
    for group in groups(job):
        kind = "workers" if "groupName" in group else "head"
        assert set(group) <= set(FIELDS[kind].split())
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **group["template"]}
        validator.validate(pod, "1.33", strict=True)


def test_kuberay_and_kubernetes_know_every_field():
    validate(job())
    validator = pytest.importorskip("kubernetes_validate")
    broken = copy.deepcopy(job())
    groups(broken)[1]["template"]["spec"]["containers"][0]["images"] = "x"
    with pytest.raises(validator.ValidationError):
        validate(broken)
    for place in (
        lambda j: j["spec"],
        lambda j: j["spec"]["rayClusterSpec"],
        lambda j: groups(j)[1],
    ):
        broken = copy.deepcopy(job())
        place(broken)["backOffLimit"] = 1
        with pytest.raises(AssertionError):
            validate(broken)


def test_one_version_of_ray_one_image_and_one_folder_everywhere():
    (version,) = re.findall(
        r"^FROM rayproject/ray:([\d.]+)-py311$", read("Dockerfile"), re.MULTILINE
    )
    assert job()["spec"]["rayClusterSpec"]["rayVersion"] == version
    containers = [c for g in groups(job()) for c in g["template"]["spec"]["containers"]]
    assert {c["image"].rpartition(":")[2] for c in containers} == {version}
    assert len({c["image"] for c in containers}) == 1
    assert all({"name": "data", "mountPath": "/data"} in c["volumeMounts"] for c in containers)


def test_the_entrypoint_is_a_call_that_exists():
    """Run with a `detect_bulk` that notes how it was called."""
    import inspect

    from retinaface_tf.bulk import detect_bulk

    program, option, code = shlex.split(job()["spec"]["entrypoint"])
    assert (program, option) == ("python", "-c")
    calls = []
    signature = inspect.signature(detect_bulk)
    note = {"detect_bulk": lambda *a, **k: calls.append(signature.bind(*a, **k).arguments)}
    code = code.replace("from retinaface_tf.bulk import detect_bulk;", "", 1)
    exec(compile(code.strip(), "entrypoint", "exec"), note)
    (call,) = calls
    assert call["engine"] == "ray" and call["ray_address"] == "auto"
    assert all(str(path).startswith("/data/") for path in [*call["inputs"], call["out"]])


def read(name):
    return (FOLDER / name).read_text()
