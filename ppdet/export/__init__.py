"""Paddle Inference and ONNX exports, each compared with the model."""
