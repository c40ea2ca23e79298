"""What is known of a shard whose workers died: how often, and over which image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from retinaface_tf.bulk.results import shard_name
from retinaface_tf.errors import DataError, WorkerError

ATTEMPTS_FOLDER = "_attempts"

# A worker that dies twice over the same image dies of it.
DEATHS_OF_A_IMAGE = 2


@dataclass
class Attempts:
    """The attempts at one shard, kept in a file, as whoever makes them may be killed at any time.

    The first goes at full speed. Where that ended in a death, the next takes one image after the
    other and notes each before it begins; an image over which two workers died is left out.

    Args:
        out: folder of the run.
        shard: number of the shard.
        run: a name of this run; attempts of an earlier one, which the user may have killed, do not
            count.
        retries: deaths allowed beside those that found their image.
    """

    out: str | Path
    shard: int
    run: str
    retries: int

    def __post_init__(self):
        self._path = Path(self.out) / ATTEMPTS_FOLDER / f"{shard_name(self.shard)}.jsonl"
        self.careful = False
        self.deadly: set[int] = set()

    def begin(self) -> None:
        """Notes a new attempt, and reads what became of those before.

        Raises:
            WorkerError: there were too many.
            DataError: the folder cannot be written.
        """
        deaths, over = self._read()
        self.deadly = {i for i in over if over.count(i) >= DEATHS_OF_A_IMAGE}
        self.careful = deaths > 0
        unexplained = deaths - sum(over.count(i) for i in self.deadly)
        if unexplained > self.retries:
            raise WorkerError(
                f"{deaths} attempts at {shard_name(self.shard)} ended in a worker's death, more than "
                f"retries={self.retries} allows; see whether memory is short, then run the same "
                "command again: finished shards are kept."
            )
        self._note({"run": self.run}, new_line=True)

    def at(self, image: int) -> None:
        """Notes the image that comes next, by its place in the shard."""
        self._note({"at": image})

    def finish(self) -> None:
        """Forgets them: the shard is done, or stopped for a reason that is told otherwise."""
        self._path.unlink(missing_ok=True)

    def _note(self, entry: dict, new_line: bool = False) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                # Death may have cut the last line off.
                file.write("\n" * new_line + json.dumps(entry) + "\n")
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(f"Cannot write {self._path}: {reason}.") from None

    def _read(self) -> tuple[int, list[int]]:
        """How many attempts of this run there were, and the last image of each that noted one."""
        attempts: list[int | None] = []
        ours = False
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            lines = []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # cut off by the death itself
                continue
            if "run" in entry:
                ours = entry["run"] == self.run
                attempts += [None] if ours else []
            elif ours:
                attempts[-1] = entry["at"]
        return len(attempts), [place for place in attempts if place is not None]
