"""Pure functions of boxes, anchors and the deltas between them.

Each works on numpy arrays and, unchanged, on tensors of the Keras backend: the namespace follows
the arguments. numpy in, numpy out (float32 kept); any tensor among them gives a tensor.
"""
