"""Mesh files other programs open: Wavefront OBJ and PLY."""

from pathlib import Path

import numpy as np

from retinaface_tf.errors import DataError
from retinaface_tf.util.files import write_whole
from retinaface_tf.util.text_lines import read_text


def read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Vertices, triangles and texture coordinates of an OBJ file.

    Polygons are cut into triangles from their first corner.

    Returns:
        float64 [V, 3] as written; int32 [F, 3]; float32 [V, 2] u right and v down, or None where
        there are none or a vertex has several.

    Raises:
        DataError: a line cannot be read, or there is no triangle.
    """
    points, textures, triangles, texture_of = [], [], [], {}
    consistent = True
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        try:
            if not words:
                continue
            if words[0] == "v":
                points.append([float(v) for v in words[1:4]])
            elif words[0] == "vt":
                textures.append([float(v) for v in words[1:3]])
            elif words[0] == "f":
                corners = [_corner(word, len(points), len(textures)) for word in words[1:]]
                for vertex, texture in corners:
                    consistent &= texture_of.setdefault(vertex, texture) == texture
                face = [vertex for vertex, _ in corners]
                triangles += [(face[0], b, c) for b, c in zip(face[1:], face[2:])]
        except (ValueError, IndexError):
            raise DataError(f"{path} line {number}: cannot read {line.strip()!r}.") from None
    if not triangles or any(len(p) != 3 for p in points):
        raise DataError(f"{path} has no triangles; give a triangle mesh.")
    uv = None
    if textures and consistent and all(texture_of.get(v) is not None for v in range(len(points))):
        uv = np.array([textures[texture_of[v]] for v in range(len(points))], np.float32)
        uv = uv * np.float32([1, -1]) + np.float32([0, 1])
    return np.array(points, np.float64), np.array(triangles, np.int32), uv


def _corner(word: str, points: int, textures: int) -> tuple[int, int | None]:
    """Vertex and texture numbers of `v`, `v/vt`, `v//vn` or `v/vt/vn`, counted from 0."""
    parts = word.split("/")
    vertex = int(parts[0])
    texture = int(parts[1]) if len(parts) > 1 and parts[1] else None
    vertex = vertex - 1 if vertex > 0 else points + vertex
    if texture is not None:
        texture = texture - 1 if texture > 0 else textures + texture
    if not 0 <= vertex < points:
        raise ValueError(word)
    return vertex, texture


def write_obj(
    path: Path,
    vertices: np.ndarray,
    triangles: np.ndarray,
    uv: np.ndarray | None = None,
    comment: str = "",
) -> None:
    """Writes a mesh in image axes (x right, y down, z away) as an OBJ with y up and z to the viewer.

    Args:
        vertices: [V, 3].
        triangles: int [F, 3], counted from 0.
        uv: [V, 2], v down.
    """
    points = vertices * np.array([1, -1, -1])
    lines = [f"# {comment}"] if comment else []
    lines += [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in points]
    if uv is not None:
        lines += [f"vt {u:.5f} {1 - v:.5f}" for u, v in uv]
        lines += [f"f {a}/{a} {b}/{b} {c}/{c}" for a, b, c in triangles + 1]
    else:
        lines += [f"f {a} {b} {c}" for a, b, c in triangles + 1]
    write_whole(path, ("\n".join(lines) + "\n").encode(), error=DataError)


def write_ply(
    path: Path,
    vertices: np.ndarray,
    triangles: np.ndarray,
    colors: np.ndarray | None = None,
    comment: str = "",
) -> None:
    """Writes a mesh in image axes as a binary PLY with y up and z to the viewer.

    Args:
        vertices: [V, 3].
        triangles: int [F, 3].
        colors: RGB uint8 [V, 3] or None.
    """
    points = (vertices * np.array([1, -1, -1])).astype("<f4")
    header = ["ply", "format binary_little_endian 1.0"]
    header += [f"comment {comment}"] if comment else []
    header.append(f"element vertex {len(points)}")
    header += [f"property float {axis}" for axis in "xyz"]
    kind = [("position", "<f4", 3)]
    if colors is not None:
        header += [f"property uchar {name}" for name in ("red", "green", "blue")]
        kind.append(("color", "u1", 3))
    header += [f"element face {len(triangles)}", "property list uchar int vertex_indices"]
    rows = np.zeros(len(points), kind)
    rows["position"] = points
    if colors is not None:
        rows["color"] = colors
    faces = np.zeros(len(triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, triangles
    start = "\n".join([*header, "end_header"]) + "\n"
    write_whole(path, start.encode() + rows.tobytes() + faces.tobytes(), error=DataError)


def sample_colors(image: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """RGB uint8 [V, 3] of an image [H, W, 3] where vertices [V, 3] are; at its edge beyond it."""
    height, width = image.shape[:2]
    x = np.clip(np.floor(vertices[:, 0]), 0, width - 1).astype(int)
    y = np.clip(np.floor(vertices[:, 1]), 0, height - 1).astype(int)
    return image[y, x]
