"""A bulk run from beginning to end in this process: results, resumption, and what is refused."""

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from retinaface_tf import Faces, RetinaFace, cli
from retinaface_tf.bulk import detect_bulk, read_results
from retinaface_tf.bulk import run as module
from retinaface_tf.bulk.network import NetworkSpec
from retinaface_tf.bulk.results import shard_name
from retinaface_tf.errors import ConfigError, ImageError, MissingPackage, WorkerError
from retinaface_tf.inference.test_time_augmentation import Augmentation
from tests.helpers.bright_pixel import BrightPixelRuntime
from tests.helpers.bulk_inputs import encoded, write_tar

cli.with_commands()


@pytest.fixture(autouse=True)
def bright_pixels(monkeypatch):
    """The network is the one whose answers are known."""

    def describe(
        preset, model, runtime, *, precision, threads, providers, settings, augmentation, notify
    ):
        weights = f"sha of {preset}"
        return NetworkSpec(
            "none", runtime.replace("auto", "litert"), weights, settings, augmentation, threads
        )

    def open_network(spec):
        return RetinaFace(BrightPixelRuntime(), settings=spec.settings)

    monkeypatch.setattr(module, "describe_network", describe)
    monkeypatch.setattr(NetworkSpec, "open", open_network)


def run(folder, out, **options):
    return detect_bulk(folder, out, **{"engine": "loop", "shard_size": 3, **options})


def test_a_run_and_its_counts(folder, tmp_path):
    write_tar(tmp_path / "a.tar", ["1.png", "2.png"])
    report = run([folder, tmp_path / "a.tar"], tmp_path / "out")
    assert dataclasses.astuple(report) == (9, 9, 1, 4, 0)
    found = list(read_results(tmp_path / "out"))
    assert [r.index for r in found] == list(range(9))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "_manifest.json",
        *map(shard_name, range(4)),
    ]


def test_only_what_is_missing_or_damaged_is_done_again(folder, tmp_path):
    out = tmp_path / "out"
    run(folder, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / shard_name(0)).unlink()
    (out / shard_name(2)).write_bytes(b"torn")
    (out / f".{shard_name(2)}.1234").write_bytes(b"a worker was killed over this")
    kept = (out / shard_name(1)).stat().st_mtime_ns
    report = run(folder, out, batch_size=1)  # no option that results depend on
    assert report.resumed == 1 and report.images == 7 and report.errors == 1
    assert (out / shard_name(1)).stat().st_mtime_ns == kept
    assert sorted(before) == sorted(path.name for path in out.iterdir())


def test_result_files_of_the_first_version_are_kept(folder, tmp_path):
    import pyarrow.parquet as pq

    def with_old_name(text):
        return text.replace('"images"', '"pictures"')

    out = tmp_path / "out"
    run(folder, out)
    manifest = out / "_manifest.json"
    manifest.write_text(with_old_name(manifest.read_text()))
    for path in out.glob("*.parquet"):
        table = pq.read_table(path)
        notes = {k: with_old_name(v.decode()) for k, v in table.schema.metadata.items()}
        pq.write_table(table.replace_schema_metadata(notes), path)
        assert b'"pictures"' in pq.read_metadata(path).metadata[b"retinaface_tf"]
    (out / shard_name(1)).unlink()
    report = run(folder, out)
    assert (report.resumed, report.shards, report.images) == (2, 3, 7)


def test_nothing_is_left_to_do_the_second_time(folder, tmp_path, monkeypatch):
    first = run(folder, tmp_path / "out")
    monkeypatch.setattr(NetworkSpec, "open", lambda spec: pytest.fail("opened a network"))
    second = run(folder, tmp_path / "out")
    assert second.resumed == second.shards == 3
    assert dataclasses.replace(second, resumed=0) == first


@pytest.mark.parametrize(
    "change, message",
    [
        ({"threshold": 0.6}, "begun with threshold=0.5, not 0.6"),
        ({"size": (300, 400)}, "begun with size=None, not \\[300, 400\\]"),
        ({"shard_size": 4}, "another --shard-size \\(shards: 3 then, 2 now\\)"),
        ({"preset": "other"}, "begun with other weights"),
        ({"runtime": "onnx"}, "begun with runtime='litert', not 'onnx'"),
        ({"augmentation": Augmentation(flip=True)}, "begun with augmentation=None"),
    ],
)
def test_resuming_with_other_options_is_refused(folder, tmp_path, change, message):
    run(folder, tmp_path / "out")
    with pytest.raises(ConfigError, match=message) as caught:
        run(folder, tmp_path / "out", **change)
    assert str(caught.value).endswith("resume with the same, or give another --out.")
    run(folder, tmp_path / "out")


def test_resuming_with_other_inputs_is_refused(folder, tmp_path):
    run(folder, tmp_path / "out")
    (folder / "0.png").rename(folder / "8.png")
    with pytest.raises(ConfigError, match=r"other inputs .*as many, but not the same"):
        run(folder, tmp_path / "out")
    (folder / "9.png").write_bytes(encoded(1))
    with pytest.raises(ConfigError, match="images: 7 then, 8 now"):
        run(folder, tmp_path / "out")


def test_a_run_of_the_first_version_is_resumed(folder, tmp_path):
    """Its manifest counts "pictures"."""
    options = {
        "augmentation": Augmentation(scales=(640, "original"), flip=True, vote=False),
        "size": (300, 400),
        "zoom": "off",
    }
    run(folder, tmp_path / "out", **options)
    path = tmp_path / "out" / "_manifest.json"
    inputs = json.loads(path.read_text())["inputs"]
    first = {
        "format": 1,
        "version": "0.1.0",
        "weights": "sha of lite",
        "runtime": "litert",
        "threshold": 0.5,
        "iou": 0.4,
        "size": [300, 400],
        "max_faces": None,
        "large_faces": True,
        "augmentation": {
            "scales": [640, "original"],
            "flip": True,
            "rotations": [0],
            "tile": None,
            "tile_overlap": 0.25,
            "vote": False,
            "vote_iou": 0.4,
            "enlarged_limit": None,
        },
        "pictures": 7,
        "shards": 3,
        "inputs": inputs,
    }
    path.write_text(json.dumps(first))
    (tmp_path / "out" / shard_name(1)).unlink()
    assert run(folder, tmp_path / "out", **options).resumed == 2
    (folder / "9.png").write_bytes(encoded(1))
    with pytest.raises(ConfigError, match="images: 7 then, 8 now"):
        run(folder, tmp_path / "out", **options)


def test_a_folder_of_something_else_is_left_alone(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("dear")
    with pytest.raises(ConfigError, match="holds files of something else"):
        run(folder, tmp_path / "out")
    with pytest.raises(ConfigError, match="among the inputs"):
        run(folder, folder / "out")
    run(folder, tmp_path / "new")
    (tmp_path / "new" / "_manifest.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        run(folder, tmp_path / "new")
    with pytest.raises(ConfigError, match="cannot be made"):
        run(folder, tmp_path / "out" / "diary.txt" / "below")
    long = tmp_path / ("x" * 300)
    with pytest.raises(ConfigError, match="file name too long"):
        run(folder, long)
    assert run(long, tmp_path / "b").errors == 1
    with pytest.raises(ImageError, match="there is no such file"):
        run(long.with_suffix(".parquet"), tmp_path / "c")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"engine": "spark"}, "no engine 'spark'; choose one of processes, ray, loop"),
        ({"engine": "processes", "workers": 0}, "workers=0"),
        ({"workers": 2}, "'loop' has no workers"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"retries": -1}, "retries=-1"),
        ({"engine": "processes", "ray_address": "auto"}, "for the engine 'ray', not 'processes'"),
        ({"engine": "processes", "gpus_per_worker": 1.0}, "for the engine 'ray'"),
        ({"engine": "ray", "gpus_per_worker": -1.0}, "must not be negative"),
    ],
)
def test_senseless_options(folder, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        run(folder, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_no_ray_at_that_address(folder, tmp_path):
    pytest.importorskip("ray.data")
    with pytest.raises(WorkerError, match=r"Cannot reach Ray at 'ray://127.0.0.1:1': conn"):
        run(folder, tmp_path / "out", engine="ray", ray_address="ray://127.0.0.1:1")


def test_ray_is_not_installed(folder, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackage, match=r'pip install "retinaface-tf\[ray\]"'):
        run(folder, tmp_path / "out", engine="ray")


def command(*arguments):
    return CliRunner().invoke(cli.app, ["detect", *map(str, arguments)])


def test_the_command_counts_and_exits_with_1_where_an_image_failed(folder, tmp_path):
    arguments = (folder, "--engine", "loop", "--out", tmp_path / "out", "--shard-size", 3)
    result = command(*arguments)
    assert result.exit_code == 1
    assert "6 faces in 6 images, 1 unreadable; 3 files in" in result.stdout
    assert "(3 were there already)" in command(*arguments).stdout
    (folder / "3.png").unlink()
    result = command(folder, "--engine", "loop", "--out", tmp_path / "new")
    assert result.exit_code == 0 and "6 faces in 6 images; 1 file in" in result.stdout
    assert all(isinstance(r.answer, Faces) for r in read_results(tmp_path / "new"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["a.jpg", "--engine", "loop"], "--engine needs --out DIR"),
        (["a.jpg", "--engine", "loop", "--out", "o", "--draw", "d"], "--draw does not go with"),
        (["a.jpg", "--engine", "loop", "--out", "o", "--json", "-"], "--json does not go with"),
        (["a.jpg", "--engine", "loop", "--out", "o", "--server", "h:1"], "--server does not go"),
        (["a.mp4", "--engine", "loop", "--out", "o"], "a.mp4 is a video"),
        (["a.jpg", "--shard-size", "3"], "--shard-size needs an engine"),
        (["a.jpg", "--out", "o"], "--out needs an engine"),
        (["a.tar"], "a.tar holds many images"),
        (["a.parquet"], "a.parquet holds many images"),
    ],
)
def test_what_does_not_make_sense_together_is_one_sentence(arguments, message):
    result = command(*arguments)
    assert result.exit_code == 1 and message in str(result.exception)
