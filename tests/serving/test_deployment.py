"""The files under serving/ against the schemas of those who read them, and against each other."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retinaface_tf.serving.batching import read_batching_file
from retinaface_tf.serving.metrics import Metrics

yaml = pytest.importorskip("yaml")
SERVING = Path(__file__).resolve().parent.parent.parent / "serving"


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


@pytest.mark.parametrize("path", sorted(SERVING.rglob("*.y*ml")), ids=lambda p: p.name)
def test_every_yaml_file_parses(path):
    assert documents(path)


@pytest.mark.parametrize(
    "path", sorted(SERVING.glob("kubernetes*/*.yaml")), ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_kubernetes_accepts_its_files(path):
    validator = pytest.importorskip("kubernetes_validate")
    for document in documents(path):
        validator.validate(document, "1.33", strict=True)
        broken = {**document, "specification": {}}
        with pytest.raises(validator.ValidationError):
            validator.validate(broken, "1.33", strict=True)


def test_docker_compose_accepts_its_file():
    compose = pytest.importorskip("compose_spec").PyCompose
    # As docker compose itself puts defaults in place of variables before it reads.
    text = (SERVING / "docker-compose.yaml").read_text()
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    read = compose.from_yaml(text)
    read.validate()
    assert set(read.to_spec().services) == {"serving", "local", "prometheus", "grafana"}
    for broken in (text.replace("ports:", "portz:"), text.replace("services:", "servers:")):
        with pytest.raises(ValueError):
            compose.from_yaml(broken).to_spec()


def test_all_servers_read_the_same_parameter_files():
    (config,) = documents(SERVING / "kubernetes" / "configmap.yaml")
    for name, text in config["data"].items():
        assert text == (SERVING / "config" / name).read_text(), name
    (deployment,) = documents(SERVING / "kubernetes" / "deployment.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    for argument in container["args"]:
        if "=/config/" in argument:
            assert argument.rpartition("/")[2] in config["data"]


def test_tf_serving_reads_the_configuration_which_one_version_satisfies():
    proto = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    text = (SERVING / "config" / "models.config").read_text()
    with_canary = re.sub(
        r"^( *)# ( *(?:versions|version_labels|key|value|\}))", r"\1\2", text, flags=re.M
    )
    for content, versions in ((text, {1}), (with_canary, {1, 2})):
        (model,) = text_format.Parse(content, proto.ModelServerConfig()).model_config_list.config
        assert set(model.model_version_policy.specific.versions) == versions
        assert set(model.version_labels.values()) == versions


def test_probes_ask_for_what_the_local_server_has():
    deployment, _ = documents(SERVING / "kubernetes-local" / "deployment.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    paths = {
        container[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "readiness", "liveness")
    }
    (compose,) = documents(SERVING / "docker-compose.yaml")
    asked = re.findall(r"8501(/\w+)", str(compose["services"]["local"]["healthcheck"]))
    handlers = (SERVING.parent / "retinaface_tf" / "serving" / "rest.py").read_text()
    assert all(f'add_get("{path}"' in handlers for path in {*paths, *asked}) and paths | set(asked)
    options = [word.partition("=")[0] for word in container["args"][1:]]
    help_text = CliRunner().invoke(_app(), ["serve", "--help"], env={"COLUMNS": "200"}).stdout
    assert all(option in help_text for option in options)


def _app():
    from retinaface_tf import cli

    cli.with_commands()
    return cli.app


@pytest.mark.parametrize("name", ["batching_cpu.txt", "batching_gpu.txt"])
def test_batching_files_are_understood(name):
    parameters = read_batching_file(SERVING / "config" / name)
    assert parameters.max_batch_size >= 8 and parameters.max_enqueued_batches < 1000


def test_the_dashboard_draws_what_the_server_counts():
    dashboard = json.loads((SERVING / "grafana/dashboards/retinaface.json").read_text())
    metrics = Metrics("m")
    metrics.note_request("OK", 0.1, "predict", "gRPC")
    metrics.note_batch(1, 0.1, 0.1)
    pytest.importorskip("prometheus_client")
    text = metrics.text()
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line[0] != "#"}
    expressions = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    for expression in expressions:
        used = {word for word in names if word + "{" in expression or word + "[" in expression}
        assert used or "up{" in expression, expression
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
    assert len(set(places)) == len(places)
