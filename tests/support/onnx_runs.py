"""Graphs in ONNX Runtime as they are written."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import ModelProto


def session_of(model: ModelProto) -> onnxruntime.InferenceSession:
    """With Q/DQ as float operators: the integer kernels ONNX Runtime may fuse them to saturate on some CPUs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every output by its name, in the graph's order."""
    session = session_of(model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))
