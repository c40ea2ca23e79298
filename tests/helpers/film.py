"""A short film with sound, in which the bright-pixel detector finds a face."""

from fractions import Fraction

import numpy as np


def film(path, count=15, lost=(), weak=(), **facts):
    """192 x 128 with a face of 32 pixels round a white cell among noise, and a tone.

    In the frames `lost` the cell is too dark to be found.
    """
    import av  # of the extra video

    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        file.metadata.update(facts)
        pictures = file.add_stream("libx264", rate=25, options={"crf": "1"})
        pictures.width, pictures.height, pictures.pix_fmt = 192, 128, "yuv420p"
        sound = file.add_stream("aac", rate=48000, layout="mono")
        for number in range(count):
            image = noise.integers(0, 200, (128, 192, 3), np.uint8)
            image[64:72, 32:40] = 180 if number in (*lost, *weak) else 255
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = 40 * number + number % 3, Fraction(1, 1000)
            file.mux(pictures.encode(frame))
        file.mux(pictures.encode())
        for start in range(0, 1920 * count, 1024):
            wave = 8000 * np.sin(np.arange(start, start + 1024) / 20)
            frame = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], "s16", "mono")
            frame.rate, frame.pts = 48000, start
            file.mux(sound.encode(frame))
        file.mux(sound.encode())
