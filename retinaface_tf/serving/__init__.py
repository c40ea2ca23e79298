"""A local model server with TF-Serving's gRPC and REST interfaces, and its web page."""
