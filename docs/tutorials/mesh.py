# %% [markdown]
# # Meshes
#
# The preset `mobilenet0.25-mesh` gives every face 1,103 vertices and a head pose, beside the box and the
# five points. Its boxes, scores and points are those of `mobilenet0.25` to the last bit.
# [Meshes of faces](../mesh.md) has the model card, with its limits.

# %% alt="The portrait with the face's mesh drawn on it"
from PIL import Image
from skimage.data import astronaut

from retinaface_tf import RetinaFace

image = astronaut()
detector = RetinaFace.from_preset("mobilenet0.25-mesh")
faces = detector.detect(image)
x1, y1, x2, y2 = faces.boxes[0].astype(int)
Image.fromarray(faces.draw(image)).crop((x1 - 50, y1 - 50, x2 + 50, y2 + 50)).resize((390, 440))

# %% [markdown]
# x and y are pixels of the image, z points away from the viewer with the nose tip near 0. The first 68
# vertices are the iBUG points. Yaw, pitch and roll are in degrees: positive yaw looks to the image's
# left, positive pitch up, positive roll is tilted clockwise.

# %%
vertices = faces.vertices[0]
print("vertices", vertices.shape, vertices.dtype)
print("nose tip", vertices[30].round(1))
print("yaw, pitch, roll", faces.pose[0].round(1))

# %% [markdown]
# ## From the side
#
# The topology says which vertices make the 2,110 triangles. Here the face is turned about its own
# vertical axis.

# %% alt="The mesh from the front, turned by 45 degrees and from the side"
import matplotlib.pyplot as plt
import numpy as np

from retinaface_tf.mesh.topology import load_topology

topology = load_topology()
centred = vertices - vertices.mean(axis=0)
figure, axes = plt.subplots(1, 3, figsize=(9, 3.4))
for ax, degrees in zip(axes, (0, 45, 90)):
    angle = np.deg2rad(degrees)
    x = centred[:, 0] * np.cos(angle) - centred[:, 2] * np.sin(angle)
    ax.triplot(x, -centred[:, 1], topology.triangles, linewidth=0.3, color="#3949ab")
    ax.set(aspect="equal", title=f"{degrees}°")
    ax.axis("off")
plt.show()

# %% [markdown]
# ## Files for other programs
#
# `--mesh` writes an OBJ a face, with texture coordinates; `--mesh-format ply` a PLY with the image's
# colours at the vertices. `faces.to_dict()` and `--json` have the vertices too.

# %%
Image.fromarray(image).save("portrait.png")

# %% language="bash"
# retinaface-tf detect portrait.png --preset mobilenet0.25-mesh --mesh meshes/
# retinaface-tf detect portrait.png --preset mobilenet0.25-mesh --mesh meshes/ --mesh-format ply
# ls meshes
# grep -c "^v " meshes/*.obj
# grep -c "^f " meshes/*.obj

# %% [markdown]
# ## Your own photos as training data
#
# `retinaface-tf data label-mesh PHOTOS --out labels` labels faces with MediaPipe's landmark model (fetched
# once by pip), `retinaface-tf train-mesh labels` trains a head of your own on them. The other way, a
# coloured mesh behind a differentiable renderer, is described in
# [mesh decoder and renderer](../mesh-decoder.md).
