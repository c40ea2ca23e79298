"""A run's numbers: a CSV row an epoch, the same as TensorBoard events and as a plain line."""

import csv
from pathlib import Path
from typing import Any

from retinaface_tf.errors import DataError
from retinaface_tf.losses.config import (
    DENSE_TERMS,
    DISTILLATION_TERMS,
    FIRST_STAGE_TERMS,
    OWN_TERMS,
    TERMS,
)
from retinaface_tf.util.files import whole_file

ALL_TERMS = (*TERMS, *FIRST_STAGE_TERMS, *DENSE_TERMS, *DISTILLATION_TERMS, *OWN_TERMS)
COLUMNS = (
    *("epoch", "step", "learning_rate", "loss"),
    *ALL_TERMS,
    *("positives", "average_precision", "seconds"),
)


def renamed_terms(values: dict[str, Any]) -> dict[str, Any]:
    """Values by today's names of terms: those of distillation were "imitated_..." in older runs."""
    return {str(name).replace("imitated_", "distilled_"): value for name, value in values.items()}


class RunLog:
    """Rows of `metrics.csv`, TensorBoard's event files in `tensorboard/`, and lines of `train.log`.

    Row 0 is the start. After a restart the rows of epochs that are done again are dropped.

    Args:
        epochs_done: rows of later epochs are dropped.
    """

    def __init__(self, folder: Path, epochs_done: int):
        import tensorflow as tf

        self.path = folder / "metrics.csv"
        self.rows: list[dict[str, Any]] = []
        if self.path.is_file():
            with self.path.open(newline="") as file:
                rows = [_parse(renamed_terms(row)) for row in csv.DictReader(file)]
            self.rows = [row for row in rows if row["epoch"] is not None]
            self.rows = [row for row in self.rows if row["epoch"] <= epochs_done]
        self._plain = folder / "train.log"
        self._writer = tf.summary.create_file_writer(str(folder / "tensorboard"))

    def note(self, line: str) -> None:
        """Writes a line of `train.log`."""
        with self._plain.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def add(self, row: dict[str, Any]) -> None:
        """Writes one row; keys are of `COLUMNS`."""
        self.rows = [old for old in self.rows if old["epoch"] != row["epoch"]] + [row]
        with (
            whole_file(self.path, error=DataError) as partial,
            partial.open("w", newline="") as file,
        ):
            writer = csv.DictWriter(file, COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(
                {k: "" if v is None else v for k, v in row.items()} for row in self.rows
            )
        self.scalars(
            row["step"],
            {name: row[name] for name in COLUMNS[2:] if row.get(name) is not None},
            prefix="epoch/",
        )

    def scalars(self, step: int, values: dict[str, float], prefix: str = "step/") -> None:
        """Numbers for TensorBoard."""
        import tensorflow as tf

        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(prefix + name, value)

    def image(self, step: int, name: str, pixels) -> None:
        """An image uint8 [H, W, 3] for TensorBoard."""
        import tensorflow as tf

        with self._writer.as_default(step=step):
            tf.summary.image(name, pixels[None])
        self._writer.flush()

    def close(self) -> None:
        """Ends the event file."""
        self._writer.close()


def _parse(row: dict[str, str]) -> dict[str, float | int | None]:
    def number(name: str):
        text = row.get(name) or ""
        try:
            return (int if name in ("epoch", "step") else float)(text)
        except ValueError:
            return None

    return {name: number(name) for name in COLUMNS}


def epoch_line(rows: list[dict[str, Any]], epochs: int, speed: float, left: float) -> str:
    """The last of a run's rows in words: losses, average precision now and at the start, speed, time left.

    Args:
        speed: images a second.
        left: seconds.
    """
    row = rows[-1]
    parts = []
    if row.get("loss") is not None:
        found = [f"{name} {row[name]:.4g}" for name in ALL_TERMS if row.get(name) is not None]
        parts.append(f"loss {row['loss']:.4g} ({', '.join(found)})")
    if row.get("average_precision") is not None:
        parts.append(f"average precision {row['average_precision']:.4f}")
        if row["epoch"] and rows[0].get("average_precision") is not None:
            parts[-1] += f" ({rows[0]['average_precision']:.4f} at the start)"
    if row["epoch"]:
        parts += [f"{speed:.1f} images/s", f"{left / 60:.1f} min left"]
    return f"epoch {row['epoch']} of {epochs}: {', '.join(parts)}"
