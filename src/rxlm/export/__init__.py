"""Export: a decoder as an ONNX graph with weights of 32, 8 or 4 bits, and ONNX Runtime as what computes it."""
