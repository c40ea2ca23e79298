"""TF-Serving's protocol: its messages, a client without TensorFlow, a server for development."""
