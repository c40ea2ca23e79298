"""Runs a SavedModel as the C++ server does: by tag and SignatureDef tensor names.

A process of its own that imports neither this project nor Keras: load_savedmodel.py FOLDER FILE...
Prints JSON: the outputs for all files as one batch, and every operator of the graph.
"""

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path


class _Forbidden:
    """Finds these packages, since TensorFlow asks where Keras is, but loads none of them."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("keras", "tf_keras", "retinaface_tf"):
            spec = ModuleSpec(name, self, origin="/nowhere/__init__.py", is_package=True)
            spec.submodule_search_locations.append("/nowhere")
            return spec
        return None

    def create_module(self, spec):
        raise ImportError(f"{spec.name} is not to be loaded here")

    def exec_module(self, module):
        raise AssertionError


def main():
    sys.meta_path.insert(0, _Forbidden())
    import tensorflow as tf

    folder, *files = sys.argv[1:]
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        meta = tf.compat.v1.saved_model.loader.load(session, ["serve"], folder)
    signature = meta.signature_def["serving_default"]
    answer = session.run(
        {name: info.name for name, info in signature.outputs.items()},
        {signature.inputs["image_bytes"].name: [Path(file).read_bytes() for file in files]},
    )
    functions = meta.graph_def.library.function
    operators = {node.op for node in meta.graph_def.node}
    operators |= {node.op for function in functions for node in function.node_def}
    assert not {"keras", "retinaface_tf"} & {name.partition(".")[0] for name in sys.modules}
    json.dump(
        {
            "outputs": {name: value.tolist() for name, value in answer.items()},
            "operators": sorted(operators - {function.signature.name for function in functions}),
            "method": signature.method_name,
            "inputs": {
                name: sorted(entry.inputs) for name, entry in sorted(meta.signature_def.items())
            },
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
