# %% [markdown]
# # Train on your own images
#
# You have images that look different from press photos: another camera, another light, paintings.
# This page starts from the public weights and trains them further for a minute on one's own images
# and labels. So that it runs anywhere, the "own" images are drawn here: heads of a procedural model,
# which the public network has never seen. 160 are to learn from and 40 to judge by.

# %% language="bash"
# retinaface-tf data synth train --count 160 --size 192 --max-faces 8 --seed 1 --quiet
# retinaface-tf data synth held --count 40 --size 192 --max-faces 8 --seed 2 --quiet

# %% [markdown]
# ## Labels
#
# The layout of WIDER FACE's `label.txt`, which most annotation scripts can write: `# NAME`, then a line a
# face with x, y, width, height and, where you have them, five points as x, y, flag (0 visible, 1
# hidden, all -1 for unlabelled) and a blur. Faces with a box alone train everything but the points. Other
# layouts, such as COCO's JSON, LabelMe's and YOLO's: [train on your photos](../train-on-your-photos.md).

# %% language="bash"
# head -n 3 train/label.txt
# retinaface-tf data check retinaface train/label.txt train/images --quiet

# %% alt="Six drawn images with their labelled faces"
from pathlib import Path

import numpy as np
from PIL import Image

from retinaface_tf import Faces
from retinaface_tf.data.readers.widerface import read_retinaface_labels

labelled = read_retinaface_labels(Path("train/label.txt"), Path("train/images"))


def draw_labels(entry):
    """The image with its labels drawn like detections of score 1."""
    pixels = np.asarray(Image.open(entry.path))
    ones = np.ones(len(entry.boxes), np.float32)
    return Faces(entry.boxes, ones, entry.landmarks, pixels.shape[:2]).draw(pixels)


Image.fromarray(np.concatenate([draw_labels(entry) for entry in labelled[:6]], axis=1))

# %% [markdown]
# ## The run
#
# The recipe for few images comes with the package ([train on your photos](../train-on-your-photos.md)); `--set`
# changes any of it, here for images this small. The backbone stays as it is: 160 images are too few to teach
# it anything that it would not pay for elsewhere. `train` checks the labels first, judges before the first
# step and after each epoch, and goes on where it was if it is interrupted.

# %% language="bash"
# retinaface-tf train --finetune mobilenet0.25 --data train --epochs 6 --out run --quiet \
#     --set data.validation_labels=held/label.txt --set data.validation_images=held/images \
#     --set data.size=160 --set data.validation_size=192 --set 'init.freeze=["backbone"]' --set schedule.peak=0.001

# %% [markdown]
# The run's folder has the curves and the held-out images: labels white, detections in colour.

# %% alt="Held-out images with labels in white and detections in colour"
Image.open("run/detections.png")

# %% alt="Curves of the losses and of the average precision"
Image.open("run/learning.png")

# %% [markdown]
# ## Use it
#
# The weights work wherever a preset's name does: in Python, for `detect --model`, for `export`.

# %% alt="A held-out image with the faces that the new weights find"
from retinaface_tf import RetinaFace

held = read_retinaface_labels(Path("held/label.txt"), Path("held/images"))
images = [np.asarray(Image.open(entry.path)) for entry in held]
public, mine = RetinaFace.from_preset("mobilenet0.25"), RetinaFace.from_file("run/best.weights.h5")
print(f"{sum(len(entry.boxes) for entry in held)} labelled")
for name, detector in {"public": public, "these": mine}.items():
    print(f"{name} weights find {sum(len(detector.detect(image)) for image in images)}")
Image.fromarray(mine.detect(images[9]).draw(images[9])).resize((384, 384))

# %% [markdown]
# ## Does it still find photographed faces?
#
# Training on one kind of image costs something on others. Look before you ship: keep photos of the
# old kind among the new ones if both matter.

# %%
from skimage.data import astronaut

photo = astronaut()
for name, detector in {"public": public, "these": mine}.items():
    print(name, detector.detect(photo).scores.round(3))

# %% [markdown]
# With real data: `retinaface-tf train --data retinaface --root WIDER` is the papers' recipe on every GPU
# there is; [training](../training.md) has all options.
