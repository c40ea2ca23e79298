"""Frames of a video and their faces, as commands search them."""

from retinaface_tf import RetinaFace
from retinaface_tf.cli.video_options import search_frames
from retinaface_tf.images.video_frames import Frame
from tests.helpers.squares import SquaresRuntime, squares


def test_commands_look_again_where_the_last_frames_had_small_faces():
    """In every other frame the square has 5 pixels, too few for the first look."""
    frames = [Frame(i, i / 25, squares(240, 320, (100, 60, 10 - 5 * (i % 2)))) for i in range(4)]
    counts = {}
    for way in ("off", "auto"):
        detector = RetinaFace(SquaresRuntime(), zoom=way, threshold=0.25)
        answers = list(search_frames(detector, iter(frames), 2, "film.mp4"))
        assert [frame.index for frame, _ in answers] == [0, 1, 2, 3]
        counts[way] = [len(faces) for _, faces in answers]
    assert counts == {"off": [1, 0, 1, 0], "auto": [1, 1, 1, 1]}
