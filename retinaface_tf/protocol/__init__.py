"""TF-Serving's wire protocol: its messages, tensors, and a client that needs no TensorFlow."""
