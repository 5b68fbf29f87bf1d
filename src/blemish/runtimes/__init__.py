"""Runtimes: they compute predictions as numpy arrays, with torch or with ONNX Runtime."""
