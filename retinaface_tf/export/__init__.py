"""Networks written for other runtimes: TFLite/LiteRT, ONNX."""

# Changes when the same weights give another file, so that cached ones are made anew.
REVISION = 1
