"""Which attempts at a shard ended in a crash of the worker, and at which image."""

import json
from dataclasses import dataclass
from pathlib import Path

from retinaface_tf.bulk.results import shard_name
from retinaface_tf.errors import DataError, WorkerError

ATTEMPTS_FOLDER = "_attempts"

# An image at which this many workers crashed is left out.
CRASHES_OF_ONE_IMAGE = 2


@dataclass
class Attempts:
    """The attempts at one shard, noted in a file, since a crash may end the worker at any time.

    The first attempt works in batches. After a crash, the next attempts take one image at a time
    and note each before they begin it; an image at which two workers crashed is left out.

    Args:
        run: id of this run. Attempts of an earlier run, which the user may have killed, do not
            count.
        retries: crashes allowed besides those that an image explains.

    Attributes, set by `begin`:
        one_at_a_time: an earlier attempt crashed.
        crashing: places in the shard of the images to leave out.
    """

    out: str | Path
    shard: int
    run: str
    retries: int

    def __post_init__(self):
        self._path = Path(self.out) / ATTEMPTS_FOLDER / f"{shard_name(self.shard)}.jsonl"
        self.one_at_a_time = False
        self.crashing: set[int] = set()

    def begin(self) -> None:
        """Reads how the earlier attempts ended, and notes a new one.

        Raises:
            WorkerError: too many crashed.
            DataError: the folder cannot be written.
        """
        crashes, images = self._read()
        self.crashing = {i for i in images if images.count(i) >= CRASHES_OF_ONE_IMAGE}
        self.one_at_a_time = crashes > 0
        unexplained = crashes - sum(images.count(i) for i in self.crashing)
        if unexplained > self.retries:
            raise WorkerError(
                f"{crashes} attempts at {shard_name(self.shard)} ended in a crash of the worker, "
                f"more than retries={self.retries} allows; check whether memory is short, then run "
                "the same command again: finished shards are kept."
            )
        self._note({"run": self.run}, new_line=True)

    def at(self, image: int) -> None:
        """Notes the image that comes next, by its place in the shard."""
        self._note({"at": image})

    def finish(self) -> None:
        """Deletes the notes: the shard is done, or stopped for a reason that is reported."""
        self._path.unlink(missing_ok=True)

    def _note(self, entry: dict, new_line: bool = False) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                # A crash may have cut off the last line.
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
            except ValueError:  # cut off by the crash
                continue
            if "run" in entry:
                ours = entry["run"] == self.run
                attempts += [None] if ours else []
            elif ours:
                attempts[-1] = entry["at"]
        return len(attempts), [image for image in attempts if image is not None]
