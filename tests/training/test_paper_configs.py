"""The shipped training configurations of the papers' networks."""

from pathlib import Path

import pytest

from retinaface_tf.presets import get_preset
from retinaface_tf.training.config import read_config

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"
ROWS = sorted((CONFIGS / "ablation").glob("*.toml"))


@pytest.mark.parametrize("path", [*CONFIGS.glob("*.toml"), *ROWS], ids=lambda path: path.stem)
def test_every_configuration_can_be_read(path):
    read_config(path)


def test_each_ablation_row_differs_by_one_line_from_its_neighbour():
    assert len(ROWS) == 4
    texts = [
        [line for line in row.read_text().splitlines() if not line.startswith("#")] for row in ROWS
    ]
    for one, next_one in zip(texts, texts[1:]):
        assert len(one) == len(next_one)
        assert sum(a != b for a, b in zip(one, next_one)) == 1


def test_ablation_has_the_papers_levels():
    for row in ROWS:
        found, wanted = read_config(row).network, get_preset("resnet152-paper").config
        for level, expected in zip(found.levels, wanted.levels, strict=True):
            assert level.stride == expected.stride
            assert level.anchor_sizes == pytest.approx(expected.anchor_sizes, abs=1e-3)
