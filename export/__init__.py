"""From a module to split ONNX graphs and TensorRT engines."""
