"""Readers of other programs' weights: PyTorch .pth, ONNX, YuNet's ONNX."""
