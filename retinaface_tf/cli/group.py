"""`retinaface-tf group`: photos in a folder for each person, by an embedder that the user brings."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from retinaface_tf.cli.face_choice import check_min_quality
from retinaface_tf.cli.open_detector import DetectionOptions
from retinaface_tf.cli.options import Threads
from retinaface_tf.errors import ConfigError, ImageError, RetinaFaceError
from retinaface_tf.util.files import cannot_write

if TYPE_CHECKING:
    from retinaface_tf.cli.detect_run import Source
    from retinaface_tf.faces.embedder import Embedder, EmbedderInput


@dataclass(frozen=True, kw_only=True)
class EmbedderOptions:
    """How an embedder's input is made of pixels."""

    mean: Annotated[float, typer.Option(help="Subtracted from the embedder's pixels.")] = 127.5
    scale: Annotated[float, typer.Option(help="Divides the embedder's pixels.")] = 127.5
    color: Annotated[str, typer.Option(help="The embedder's colour order: rgb or bgr.")] = "rgb"
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Add the embedding of the mirrored crop.")
    ] = False

    @property
    def input(self) -> EmbedderInput:
        """As the embedder takes it."""
        from retinaface_tf.faces.embedder import EmbedderInput

        return EmbedderInput(mean=self.mean, scale=self.scale, color=self.color)


@dataclass(frozen=True, kw_only=True)
class GroupOptions(DetectionOptions):
    """Which network searches, and which faces count as one person."""

    threshold: Annotated[float, typer.Option(help="Least score of a face, 0 to 1.")] = 0.7
    min_quality: Annotated[
        float, typer.Option(help="Leave out faces with a lower quality, 0 to 1.")
    ] = 0.1
    similarity: Annotated[
        float,
        typer.Option(help="Least mean cosine of one person's faces; depends on the embedder."),
    ] = 0.4
    min_photos: Annotated[
        int, typer.Option(min=1, help="People in fewer photos go into the folder others.")
    ] = 2
    link: Annotated[bool, typer.Option("--link", help="Write links instead of copies.")] = False
    threads: Threads = None


def group(
    inputs: Annotated[list[str], typer.Argument(help="Photos and folders.", metavar="PHOTOS...")],
    embedder: Annotated[
        Path, typer.Option(metavar="FILE", help="Face embedder of yours: .onnx, .tflite or .keras.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to make.")],
    options: GroupOptions,
    network: EmbedderOptions,
) -> None:
    """Sort photos into a folder for each person; the photos stay where they are.

    A photo of several people is in several folders. DIR is made whole or not at all; its
    faces.jsonl says which face is whose.
    """
    from retinaface_tf.cli.detect_run import Inputs
    from retinaface_tf.faces.embedder import open_embedder
    from retinaface_tf.faces.persons import check_similarity, group_faces
    from retinaface_tf.util.extras import require
    from retinaface_tf.util.progress import choose_track

    check_similarity(options.similarity)
    check_min_quality(options.min_quality)
    sources = Inputs.of(inputs)
    unfit = [*sources.videos, *(source for source in sources.images if not source.is_file)]
    if unfit:
        raise ConfigError(f"{unfit[0].shown} is not a photo in a file; group takes only those.")
    _require_new(out)
    require("evaluate", "scipy", for_="Grouping faces")
    opened = open_embedder(embedder, network.input)
    detector = options.open_detector(threads=options.threads)
    entries, vectors, left_out, errors = [], [np.zeros((0, 0), np.float32)], 0, 0
    with choose_track(False)("photos", len(sources.images)) as advance:
        for source in sources.images:
            try:
                entry, found, poor = _embedded(source, detector, opened, options, network.mirror)
                entries.append((source, entry))
                vectors += [found] if len(found) else []
                left_out += poor
            except ImageError as error:
                errors += 1
                print(f"error: {error}", file=sys.stderr)
            advance(1)
    persons = group_faces(np.concatenate(vectors[1:] or vectors), options.similarity)
    folders = _name_persons(entries, persons, options.min_photos)
    _write(out, entries, folders, options.link)
    named = sum(name != "others" for name in folders)
    print(
        f"{len(persons)} faces in {len(entries)} photos, {named} {'person' if named == 1 else 'people'} in {options.min_photos} or "
        f"more photos; in {out}"
    )
    if left_out:
        print(f"note: {left_out} faces of low quality left out (--min-quality).", file=sys.stderr)
    if sources.left_out:
        print(f"note: {sources.left_out}.", file=sys.stderr)
    if errors:
        raise typer.Exit(1)


def _require_new(out: Path) -> None:
    """Refuses a folder with something in it: people may be other ones in another run."""
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} is there already; give a folder that is empty or not there.")


def _embedded(source: Source, detector, opened: Embedder, options: GroupOptions, mirror: bool):
    """The JSON line's entry of a photo, the vectors of its faces, and how many faces are too poor."""
    from retinaface_tf.images.read import CachedImage

    image = CachedImage(source.given)
    faces = detector.detect(image)
    good = faces.quality(image).figure >= options.min_quality
    faces, poor = faces[good], int((~good).sum())
    return faces.to_dict(), faces.embed(image, opened, mirror=mirror), poor


def _name_persons(entries: list, persons: np.ndarray, min_photos: int) -> dict[str, set[int]]:
    """Puts "person" into each face of the entries; the photos of each folder by its name."""
    photos = defaultdict(set)
    whose = iter(persons.tolist())
    faces = [(number, face) for number, (_, entry) in enumerate(entries) for face in entry["faces"]]
    for number, face in faces:
        face["person"] = next(whose)
        photos[face["person"]].add(number)
    kept = [person for person in sorted(photos) if len(photos[person]) >= min_photos]
    names = {person: f"person-{rank:03d}" for rank, person in enumerate(kept, start=1)}
    folders = defaultdict(set)
    for number, face in faces:
        face["person"] = names.get(face["person"], "others")
        folders[face["person"]].add(number)
    return folders


def _write(out: Path, entries: list, folders: dict[str, set[int]], link: bool) -> None:
    """Makes the folder beside its place, and puts it there when it is whole."""
    from retinaface_tf.cli.output_names import OutputNames

    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
    except OSError as failure:
        raise RetinaFaceError(cannot_write(out, failure)) from None
    try:
        names = OutputNames()
        for name, photos in folders.items():
            (made / name).mkdir()
            for number in sorted(photos):
                source = entries[number][0]
                place = names.claim(made / name / source.name.name)
                if link:
                    place.symlink_to(source.path.resolve())
                else:
                    shutil.copy2(source.path, place)
        lines = [json.dumps({"image": source.shown, **entry}) for source, entry in entries]
        (made / "faces.jsonl").write_text("".join(f"{line}\n" for line in lines))
        made.chmod(0o777 & ~_umask())
        made.replace(out)
    except OSError as failure:
        raise RetinaFaceError(cannot_write(out, failure)) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
