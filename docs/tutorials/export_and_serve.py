# %% [markdown]
# # Export and serve
#
# A detector that other programs ask over the network: one command writes a SavedModel that TF-Serving
# runs as it is, files in and faces out. Here a local server stands in for TF-Serving, with the same
# interfaces, and a client asks it; all on this machine. `pip install -e ".[export,serving,demo]"` has what it
# needs.

# %% language="bash"
# retinaface-tf export savedmodel models/retinaface
# find models -type f | sort

# %% [markdown]
# Decoding, scaling, the network, suppression and the way back to the image's own pixels are all in the
# graph: [serving](../serving.md) has the signatures.
#
# ## Start a server
#
# In a terminal: `retinaface-tf serve --model models/retinaface`. It listens on this machine alone and has
# a page to drop photos on. Here it takes free ports, which it tells on its first line.

# %%
import re
import subprocess

server = subprocess.Popen(
    ["retinaface-tf", "serve", "--model", "models/retinaface", "--port", "0", "--rest-port", "0"],
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
)
line = server.stdout.readline()
grpc_port, rest_port = re.search(r"gRPC \S+:(\d+).*:(\d+)", line).groups()
print(re.sub(r":\d+", ":PORT", line))

# %% [markdown]
# ## Ask it from Python
#
# The client needs grpcio and protobuf and no TensorFlow. It gives the same `Faces`.

# %% alt="The portrait with the face that the server found"
from PIL import Image
from skimage.data import astronaut

from retinaface_tf import RetinaFace

image = astronaut()
Image.fromarray(image).save("portrait.png")
remote = RetinaFace.from_endpoint(f"127.0.0.1:{grpc_port}", model="retinaface")
faces = remote.detect("portrait.png")
Image.fromarray(faces.draw(image)).resize((320, 320))

# %%
here = RetinaFace.from_preset().detect("portrait.png")
print("server", faces.boxes.round(2), faces.scores.round(4))
print("here  ", here.boxes.round(2), here.scores.round(4))

# %% [markdown]
# ## Ask it from anything else
#
# REST takes base64 of an image file, as TF-Serving does. Lists have a fixed length; `num_faces` says how
# many of it are faces.

# %%
import base64
import json
import urllib.request
from pathlib import Path

address = f"http://127.0.0.1:{rest_port}/v1/models/retinaface:predict"
encoded = base64.b64encode(Path("portrait.png").read_bytes()).decode()
request = {"instances": [{"b64": encoded}, {"b64": base64.b64encode(b"no image").decode()}]}
with urllib.request.urlopen(address, json.dumps(request).encode()) as answer:
    found, bad = json.load(answer)["predictions"]
print("faces", found["num_faces"], "box", [round(v, 1) for v in found["boxes"][0]])
print("status of the image", found["status"], "and of the bytes that are none", bad["status"])

# %% [markdown]
# One caller's bad bytes do not fail the batch: the second answer has status 1 and no face.
#
# The command line asks a server too:

# %%
command = ["retinaface-tf", "detect", "portrait.png", "--server", f"127.0.0.1:{grpc_port}"]
print(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

# %% [markdown]
# ## New versions
#
# `export savedmodel` again writes `models/retinaface/2`; the server loads and warms it while the old one
# answers, then it takes over. SIGTERM ends the server after the requests under way.

# %%
server.terminate()
print("ended with", server.wait(timeout=60))

# %% [markdown]
# In production the image `tensorflow/serving` runs the same folder:
# [TF-Serving in production](../../serving/README.md) has compose and Kubernetes files, batching
# parameters and a dashboard.
