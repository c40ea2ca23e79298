"""What an exported .tflite or .onnx file says about itself, and how it is checked."""
