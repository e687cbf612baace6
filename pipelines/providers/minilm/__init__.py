"""Offline embeddings: all-MiniLM-L6-v2 with ONNX Runtime."""
