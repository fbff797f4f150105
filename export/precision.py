"""An FP32 graph -> the same graph in FP16, its inputs and outputs still FP32."""

from __future__ import annotations

from onnx import ModelProto
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel


def fp16_from_fp32(model: ModelProto) -> ModelProto:
    """A copy whose weights and activations are half precision; `model` is left as it is.

    Graph inputs and outputs keep FP32, with a Cast beside each, so that decoding and the template
    tensors between the two graphs do not depend on the precision of an engine. Weights beyond
    +-65504, FP16's largest magnitude, are clamped to it. Integer tensors (shapes) keep their type.
    """
    half = OnnxModel(convert_float_to_float16(model, keep_io_types=True))
    half.topological_sort()  # the converter appends its Casts at the end, where ONNX does not allow them
    return half.model
