"""Export: a model's layers as ONNX graphs, with weights of 32, 8 or 4 bits, and ONNX Runtime as what computes them."""
