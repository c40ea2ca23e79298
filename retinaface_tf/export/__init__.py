"""Networks written for other programs: TF-Serving, phones, ONNX runtimes."""

# Changes when the same weights give another file, so that cached ones are made anew.
REVISION = 1
