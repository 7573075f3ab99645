"""The independent parity check by ONNX and onnxruntime."""
