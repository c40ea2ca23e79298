"""Networks written for other programs: TF-Serving, phones, ONNX runtimes."""
