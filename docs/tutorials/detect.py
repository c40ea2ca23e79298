# %% [markdown]
# # Detect
#
# One call finds every face in an image. This page runs as it stands, on NASA's portrait of Eileen
# Collins that scikit-image ships (`pip install -e ".[demo]"`). The network is the preset `lite`, whose
# weights lie in the package: nothing is downloaded.

# %% alt="NASA's portrait with one face: a box, its score and five points drawn on it"
from PIL import Image
from skimage.data import astronaut

from retinaface_tf import RetinaFace

image = astronaut()  # uint8 RGB [512, 512, 3]; a path, bytes or a PIL image would do as well
detector = RetinaFace.from_preset()
faces = detector.detect(image)
Image.fromarray(faces.draw(image))

# %% [markdown]
# ## What a detection is
#
# `Faces` holds arrays, best score first. Boxes are x1, y1, x2, y2 in pixels of your image; left and
# right of the five points are the image's.

# %%
import numpy as np

np.set_printoptions(precision=1, suppress=True)
print("faces", len(faces))
print("boxes", faces.boxes)
print("scores", faces.scores.round(4))
print("points", faces.landmarks[0].tolist())

# %% [markdown]
# A mask, slice or index list gives `Faces` again; an integer gives one `Face`.

# %%
sure = faces[faces.scores > 0.9]
sure[0].to_dict()

# %% [markdown]
# ## Crops for a face embedder
#
# `align` turns and scales each face so that its five points meet the ArcFace template.

# %% alt="The face, upright, 112 by 112 pixels"
Image.fromarray(faces.align(image, size=112)[0])

# %% [markdown]
# ## Many images, any sizes
#
# A list in, a list out: images of one shape go through the network together. A bad one does not cost
# you the others: with `on_error="return"` its error stands in its place. For more images than fit
# into memory there is `detector.stream(paths)`.

# %%
wide = np.concatenate([image, image[:, ::-1], image], axis=1)
small = image[:300, 100:400]
for result in detector.detect([image, wide, b"not an image", small], on_error="return"):
    print(repr(result)[:70] if isinstance(result, Exception) else f"{len(result)} faces")

# %% [markdown]
# ## Size
#
# The size of the search decides how small a face may be. `size` is the short edge at which images
# are searched: here each face of the sheet is 6 pixels wide, which is too small at its own size.

# %% alt="A sheet of 64 small portraits with the faces found"
thumbnail = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.LANCZOS))
sheet = np.tile(thumbnail, (8, 8, 1))
for size in (None, 512):
    found = detector.detect(sheet, size=size)
    print(f"size={size}: {len(found)} of 64 faces")
Image.fromarray(found.draw(sheet))

# %% [markdown]
# ## Turned images
#
# Upside-down faces are found by searching turned copies too. What several searches find is joined by
# score-weighted voting.

# %%
from retinaface_tf.inference.test_time_augmentation import Augmentation, AugmentedDetector

upside_down = np.ascontiguousarray(image[::-1, ::-1])
plain = detector.detect(upside_down)
turned = AugmentedDetector(detector, Augmentation(rotations=(0, 1, 2, 3), vote=True)).detect(
    upside_down
)
print("without turning:", plain.scores.round(2), "with:", turned.scores.round(2))

# %% [markdown]
# ## The same on the command line
#
# Folders, videos and a webcam are given in the same place. An unreadable file becomes a line with its
# error, the run goes on and exits with 1.

# %%
Image.fromarray(image).save("portrait.png")

# %% language="bash"
# retinaface-tf detect portrait.png --json - --draw drawn/ --crops crops/
# ls drawn crops

# %% [markdown]
# Next: [train on your own images](fine_tune.py), [export and serve](export_and_serve.py),
# [phones and browsers](mobile.py), [meshes](mesh.py).
