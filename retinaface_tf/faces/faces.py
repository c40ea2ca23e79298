"""What a detection is: the faces of one image as arrays, and what people do with them."""

from __future__ import annotations

import dataclasses
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from retinaface_tf.errors import DataError, ImageError
from retinaface_tf.faces.blurring import DEFAULT_MARGIN, BlurMethod, BlurShape, blur_boxes
from retinaface_tf.faces.json_lines import face_entry, parse_face_line
from retinaface_tf.faces.rows import COLUMNS, face_row
from retinaface_tf.images.read import ImageSource, describe_source, read_image
from retinaface_tf.util.extras import require_package

if TYPE_CHECKING:
    from retinaface_tf.faces.embedder import Embedder
    from retinaface_tf.faces.quality import Quality

# Where each point of a mirrored face is found among the face's own.
MIRRORED_POINTS = (1, 0, 2, 4, 3)


class NamedLandmarks:
    """The five points by name: float32 x, y in image pixels, [2] of a `Face`, [N, 2] of `Faces`.

    Left and right are the image's, as it is seen: `left_eye` is the one nearer the image's left edge in
    an upright face, which is the person's right eye.
    """

    landmarks: NDArray[np.float32]

    @property
    def left_eye(self) -> NDArray[np.float32]:
        """The eye on the image's left, the person's right."""
        return self.landmarks[..., 0, :]

    @property
    def right_eye(self) -> NDArray[np.float32]:
        """The eye on the image's right, the person's left."""
        return self.landmarks[..., 1, :]

    @property
    def nose(self) -> NDArray[np.float32]:
        """The tip of the nose."""
        return self.landmarks[..., 2, :]

    @property
    def left_mouth_corner(self) -> NDArray[np.float32]:
        """The corner of the mouth on the image's left, the person's right."""
        return self.landmarks[..., 3, :]

    @property
    def right_mouth_corner(self) -> NDArray[np.float32]:
        """The corner of the mouth on the image's right, the person's left."""
        return self.landmarks[..., 4, :]


@dataclass(frozen=True, eq=False, repr=False)
class Face(NamedLandmarks):
    """One face. Faces with the same values are equal (an unknown point, NaN, equals another).

    Attributes:
        box: float32 [4] x1, y1, x2, y2 in image pixels.
        score: probability, 0..1.
        landmarks: float32 [5, 2] x, y in image pixels, in the order of `rows.LANDMARK_NAMES`; left and
            right are the image's.
        vertices: float32 [V, 3] x, y, z in image pixels, or None.
        track: the number of its track in a video, see `faces.tracking`; None where it has none.
    """

    box: NDArray[np.float32]
    score: float
    landmarks: NDArray[np.float32]
    vertices: NDArray[np.float32] | None = None
    track: int | None = None

    def __repr__(self) -> str:
        box = ", ".join(f"{v:.1f}" for v in self.box)
        return f"Face(score={self.score:.3f}, box=[{box}])"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Face):
            return NotImplemented
        return self.score == other.score and _all_equal(self, other, ("box", "landmarks"))

    def __hash__(self) -> int:
        return hash((self.score, *np.nan_to_num(self.box).tolist()))

    def to_dict(self) -> dict[str, Any]:
        """{"box": [x1, y1, x2, y2], "score": s, "landmarks": [[x, y] x5]}, rounded for JSON.

        In a track also its number, "track"; with a mesh also "pose" [yaw, pitch, roll] in degrees and
        "vertices" [[x, y, z] xV].
        """
        entry = face_entry(self.box, self.score, self.landmarks)
        if self.track is not None:
            entry["track"] = self.track
        if self.vertices is not None and self.pose is not None:
            entry["pose"] = [round(v, 2) for v in self.pose]
            entry["vertices"] = [[round(float(v), 2) for v in vertex] for vertex in self.vertices]
        return entry

    @property
    def pose(self) -> tuple[float, float, float] | None:
        """Yaw, pitch and roll in degrees, see `Faces.pose`; None without vertices."""
        if self.vertices is None:
            return None
        yaw, pitch, roll = _head_pose(self.vertices[None])[0].tolist()
        return yaw, pitch, roll


@dataclass(frozen=True, eq=False, repr=False)
class Faces(NamedLandmarks):
    """All faces of one image, best score first.

    `==` compares the values of all faces and the size of the image, and gives one bool.

    Attributes:
        boxes: float32 [N, 4] x1, y1, x2, y2 in pixels of the original image, inside it.
        scores: float32 [N], descending, 0..1.
        landmarks: float32 [N, 5, 2] x, y in image pixels: the image's left eye, right eye, nose,
            left mouth corner, right mouth corner. A point of a cut-off face may lie outside.
        image_size: (height, width) of the image.
        vertices: float32 [N, V, 3] in image pixels, z away from the viewer with the nose tip near
            0, or None where the model has no dense branch.
        truncated: the model found more faces than it may answer (`max_faces` of its export) and
            these are the best.
        origin: where `detect` found the image, for notebooks: a file's name, or a weak reference; None
            elsewhere, and in copies sent to other processes.
        tracks: int64 [N], the number of each face's track in a video, 0 for none
            (`faces.tracking.Tracker.follow`); None where faces are not followed.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    image_size: tuple[int, int]
    vertices: NDArray[np.float32] | None = None
    truncated: bool = False
    origin: str | weakref.ref[Any] | None = None
    tracks: NDArray[np.int64] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "origin": None}

    def of_image(self, source: object) -> Faces:
        """The same, that know where their image is, so that a notebook shows it."""
        from retinaface_tf.faces.notebook import origin_of

        return dataclasses.replace(self, origin=origin_of(source))

    def _repr_html_(self) -> str:
        """What a notebook shows: the drawn picture, at most 640 pixels, where the image is at hand."""
        from retinaface_tf.faces.notebook import faces_as_html

        return faces_as_html(self)

    def __repr__(self) -> str:
        height, width = self.image_size
        best = f", best score {np.max(self.scores):.3f}" if len(self) else ""
        return f"Faces({len(self)} in {width} x {height} pixels{best})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Faces):
            return NotImplemented
        same_size = tuple(self.image_size) == tuple(other.image_size)
        return same_size and _all_equal(self, other, ("boxes", "scores", "landmarks"))

    def __hash__(self) -> int:
        return hash((*self.image_size, *np.nan_to_num(self.boxes).ravel().tolist()))

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Face]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> Face: ...

    @overload
    def __getitem__(
        self, key: slice | list[int] | list[bool] | NDArray[np.integer[Any] | np.bool_]
    ) -> Faces: ...

    def __getitem__(
        self,
        key: int
        | np.integer[Any]
        | slice
        | list[int]
        | list[bool]
        | NDArray[np.integer[Any] | np.bool_],
    ) -> Face | Faces:
        """An integer gives a `Face`; a slice, mask or index array gives `Faces`."""
        vertices = None if self.vertices is None else self.vertices[key]
        if isinstance(key, int | np.integer):
            track = None if self.tracks is None else int(self.tracks[key]) or None
            return Face(
                self.boxes[key], float(self.scores[key]), self.landmarks[key], vertices, track
            )
        return Faces(
            self.boxes[key],
            self.scores[key],
            self.landmarks[key],
            self.image_size,
            vertices,
            self.truncated,
            self.origin,
            None if self.tracks is None else self.tracks[key],
        )

    @classmethod
    def empty(cls, image_size: tuple[int, int], num_vertices: int | None = None) -> Faces:
        """No face in an image of (height, width), with no mesh of so many vertices."""
        none = np.zeros((0, 4), np.float32)
        vertices = np.zeros((0, num_vertices, 3), np.float32) if num_vertices else None
        return cls(none, none[:, 0], np.zeros((0, 5, 2), np.float32), image_size, vertices)

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Faces:
        """The faces of `to_dict`, or of a line of `detect --json`; unknown scores and points are NaN.

        Raises:
            DataError: the entry is no such line, or says no size.
        """
        line = parse_face_line({"image": "", **entry}, "The faces given")
        if line.size is None or line.error is not None:
            raise DataError(
                "The faces given are not those of an image: width or height is missing."
            )
        arrays = (line.boxes, line.scores, line.landmarks)
        boxes, scores, landmarks = (values.astype(np.float32) for values in arrays)
        meshes = [face.get("vertices") for face in entry["faces"]]
        vertices = np.array(meshes, np.float32) if meshes and all(meshes) else None
        truncated = bool(entry.get("truncated"))
        return cls(boxes, scores, landmarks, line.size, vertices, truncated)

    @property
    def pose(self) -> NDArray[np.float64] | None:
        """Yaw, pitch and roll in degrees, float64 [N, 3], measured on the vertices.

        Positive yaw looks to the image's left, positive pitch up, positive roll is tilted clockwise
        (`mesh.pose.head_pose`). None without vertices.
        """
        return None if self.vertices is None else _head_pose(self.vertices)

    def to_dict(self) -> dict[str, Any]:
        """{"width": W, "height": H, "faces": [...]}: a line of `detect --json`, less the name.

        With "truncated": true behind it where that holds.
        """
        height, width = self.image_size
        entry = {"width": width, "height": height, "faces": [face.to_dict() for face in self]}
        return entry | {"truncated": True} if self.truncated else entry

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with a row a face: `x1`, `y1`, `x2`, `y2`, `score`, `left_eye_x` and so on.

        The columns are those of `detect --csv`, rounded as JSON lines are.

        Raises:
            MissingPackage: pandas is not installed.
        """
        require_package("pandas", for_="Faces.to_pandas")
        import pandas

        rows = [face_row(face) for face in self.to_dict()["faces"]]
        return pandas.DataFrame(rows, columns=None if rows else list(COLUMNS))

    def to_supervision(self) -> Any:
        """supervision.Detections: `xyxy`, `confidence`, class 0, and in `data` class_name and landmarks.

        Raises:
            MissingPackage: supervision is not installed.
        """
        require_package("supervision", for_="Faces.to_supervision")
        import supervision

        return supervision.Detections(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=np.zeros(len(self), int),
            data={"class_name": np.full(len(self), "face"), "landmarks": self.landmarks.copy()},
        )

    def draw(self, image: ImageSource) -> NDArray[np.uint8]:
        """A copy of the image with boxes, scores, points and meshes drawn on it.

        Args:
            image: the image that was searched, as `detect` takes it.

        Returns:
            uint8 RGB [H, W, 3].

        Raises:
            ImageError: it cannot be read, or its size is not that of the image that was searched.
        """
        from retinaface_tf.faces.drawing import draw_faces

        return draw_faces(self._pixels(image), self)

    def blur(
        self,
        image: ImageSource,
        *,
        method: BlurMethod = "gaussian",
        shape: BlurShape = "ellipse",
        margin: float = DEFAULT_MARGIN,
    ) -> NDArray[np.uint8]:
        """A copy of the image in which nobody can recognise these faces, nor undo it.

        Args:
            image: the image that was searched, as `detect` takes it.
            method: "gaussian" is smooth, "pixelate" has squares, both of about five colours along
                a face of any size; "solid" is black and leaves nothing.
            shape: "ellipse" or "box".
            margin: each edge of a face's box is moved out by this share of its side.

        Returns:
            uint8 RGB [H, W, 3].

        Raises:
            ImageError: it cannot be read, or its size is not that of the image that was searched.
            ConfigError: there is no such method or shape, or the margin is negative.
        """
        return blur_boxes(self._pixels(image), self.boxes, method, shape, margin)

    def align(self, image: ImageSource, size: int = 112) -> NDArray[np.uint8]:
        """Crops turned and scaled so that the five points meet the ArcFace template.

        Args:
            image: the image that was searched, as `detect` takes it.
            size: side of the crops in pixels.

        Returns:
            uint8 RGB [N, size, size, 3]; black where a crop reaches outside the image.

        Raises:
            ImageError: it cannot be read, or its size is not that of the image that was searched.
            ConfigError: the size is no whole number, or not positive.
        """
        crops = self.crops(image, "aligned", (size, size))
        return np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8)

    def crops(
        self,
        image: ImageSource,
        kind: str = "aligned",
        size: int | tuple[int, int] | None = None,
        margin: float = 0.0,
    ) -> list[NDArray[np.uint8]]:
        """Each face cut out of the image.

        Args:
            image: the image that was searched, as `detect` takes it.
            kind: "aligned" turns and scales the face so that its points meet ArcFace's template,
                "ffhq" those of FFHQ's; "square" is a square around the box, upright; "box" the box
                itself, as far as the image has it.
            size: pixels of the side, of "box" the longer one; for "aligned" and "ffhq" also (height,
                width), as (112, 96). None: 112 for "aligned", 512 for "ffhq", else the image's own
                pixels.
            margin: added on each side, as a share of what is cut out without: 0.5 shows twice as
                much in each direction.

        Returns:
            uint8 RGB [h, w, 3] a face; black where a crop other than "box" reaches outside the image.

        Raises:
            ImageError: it cannot be read, or its size is not that of the image that was searched.
            ConfigError: an option is unknown or out of range.
        """
        from retinaface_tf.faces.crops import check_crops, cut_faces

        check_crops(kind, size, margin)
        return cut_faces(self._pixels(image), self, kind, size, margin)

    def embed(
        self,
        image: ImageSource,
        model: Embedder | str | os.PathLike[str],
        mirror: bool = False,
    ) -> NDArray[np.float32]:
        """What a face embedder of yours says of each face: the nearer two vectors, the more alike.

        Args:
            image: the image that was searched, as `detect` takes it.
            model: an .onnx, .tflite or .keras file whose input is normalised as ArcFace's, or what
                `faces.embedder.open_embedder` opened, for many images and other normalisations.
            mirror: add the embedding of the mirrored crop.

        Returns:
            float32 [N, D], of length 1: the dot product of two is their cosine.

        Raises:
            ImageError: it cannot be read, or its size is not that of the image that was searched.
            WeightsError: the embedder cannot be read or run.
        """
        from retinaface_tf.faces.embedder import Embedder, open_embedder

        network = model if isinstance(model, Embedder) else open_embedder(os.fspath(model))
        crops = self.crops(image, "aligned", network.size)
        if not crops:
            return np.zeros((0, 0), np.float32)
        vectors = network(np.stack(crops), flip=mirror)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)

    def quality(self, image: ImageSource) -> Quality:
        """How sharp, large, well lit and frontal each face is, and one figure of it all.

        `faces[np.argsort(-faces.quality(image).figure)]` has the best first.

        Args:
            image: the image that was searched, as `detect` takes it.

        Raises:
            ImageError: it cannot be read, or its size is not that of the image that was searched.
        """
        from retinaface_tf.faces.quality import face_quality

        return face_quality(self._pixels(image), self)

    def _pixels(self, source: ImageSource) -> NDArray[np.uint8]:
        """The pixels of the image that was searched; other images are refused by their size."""
        pixels = read_image(source)
        height, width = pixels.shape[:2]
        if (height, width) == tuple(self.image_size):
            return pixels
        remedy = "give the image that was searched"
        if (width, height) == tuple(self.image_size):
            remedy += ", upright as retinaface_tf.load_image(path) reads it"
        raise ImageError(
            f"These faces are of an image of {self.image_size[1]} x {self.image_size[0]} pixels, but "
            f"{describe_source(source)} has {width} x {height}; {remedy}."
        )


def _all_equal(one: Any, other: Any, names: tuple[str, ...]) -> bool:
    """Whether the named arrays are equal, and the vertices; NaN equals NaN."""
    if (one.vertices is None) != (other.vertices is None):
        return False
    names += ("vertices",) * (one.vertices is not None)
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in names
    )


def _head_pose(vertices: NDArray[np.float32]) -> NDArray[np.float64]:
    from retinaface_tf.mesh.pose import head_pose
    from retinaface_tf.mesh.topology import load_topology

    return head_pose(vertices, load_topology().mean)
