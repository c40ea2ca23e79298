# %% [markdown]
# # Phones and browsers
#
# One command writes a `.tflite` that describes itself: anchors, variances, colour order and thresholds
# stand in the file. Float for accuracy, int8 for speed. An Android app, a Kotlin library and a web page
# in [`tflite/`](../../tflite/README.md) run these files.

# %% language="bash"
# retinaface-tf export tflite float32.tflite --input-size 320x320

# %% [markdown]
# ## int8
#
# int8 needs photos to measure the network's ranges on: about 100 like those it will see. Here
# scikit-image's few must do, which is enough to try it.

# %%
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

Path("calibration").mkdir()
for name in ("camera", "chelsea", "coffee", "rocket"):
    Image.fromarray(getattr(skimage.data, name)()).convert("RGB").save(f"calibration/{name}.png")
portrait = skimage.data.astronaut()
for number, side in enumerate((160, 224, 320, 448)):  # faces of several sizes
    Image.fromarray(portrait).resize((side, side)).save(f"calibration/portrait-{number}.png")
print(len(list(Path("calibration").iterdir())), "images")

# %% language="bash"
# retinaface-tf export tflite int8.tflite --input-size 320x320 --quantize int8 --calibration calibration/
# ls -l *.tflite | awk '{print $5, $9}'

# %% [markdown]
# ## The files answer alike
#
# `RetinaFace.from_file` runs them on LiteRT, without TensorFlow.

# %% alt="The portrait with the face that the int8 file found"
from retinaface_tf import RetinaFace

np.set_printoptions(precision=1, suppress=True)
for name in ("float32", "int8"):
    faces = RetinaFace.from_file(f"{name}.tflite").detect(portrait)
    print(f"{name:8s}", faces.boxes, faces.scores.round(3))
Image.fromarray(faces.draw(portrait)).resize((320, 320))

# %% [markdown]
# Accuracy of the int8 file on FDDB and WIDER FACE pieces, and what was done so that it keeps it, stands
# in [TFLite and ONNX](../mobile-and-onnx.md). Which is quicker on this machine:

# %% language="bash"
# retinaface-tf benchmark float32.tflite int8.tflite --rounds 20 --threads 1 2>/dev/null

# %% [markdown]
# ## What the file says about itself
#
# An app needs nothing but the file. The block of JSON below is all that a decoder has to know;
# [`tflite/read_faces.py`](../../tflite/read_faces.py) is one of 40 lines, and the [formulas](../formulas.md) explain it.

# %%
import json

from retinaface_tf.modelfile.metadata import read_checked

content, metadata = read_checked("int8.tflite")
note = metadata.to_dict()
print(json.dumps({key: note[key] for key in list(note)[:8]}, indent=1)[:900])

# %% [markdown]
# ## ONNX
#
# The same network for onnxruntime, any batch and size, with suppression in the graph if you like:
# `retinaface-tf export onnx faces.onnx --with-nms`.
#
# ## In an app and in a page
#
# - [The Android app and its library](../../tflite/README.md): `python tflite/android/build.py apk` builds it
#   without Android Studio.
# - [The web page](../../tflite/web/README.md): `python tflite/web/serve.py`, then open
#   `http://localhost:8000`. Images never leave the device.
