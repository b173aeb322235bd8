"""Prediction from an ONNX file with onnxruntime and numpy; PyTorch is not imported.

from dinoseg import onnx

segmenter = onnx.load("vessels.onnx")
result = segmenter.predict("fundus.png")
result.labels  # (height, width) label ids, as in the training masks
"""

from dinoseg.onnx.segmenter import OnnxPrediction, OnnxSegmenter, load, predict

__all__ = ["OnnxPrediction", "OnnxSegmenter", "load", "predict"]
