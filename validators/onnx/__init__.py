"""Compare models through ONNX and onnxruntime, and compare ONNX files of any origin."""
