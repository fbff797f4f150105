"""ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort

from siamtrt.errors import BundleError
from siamtrt.manifest import GraphSpec, Manifest, verified_file
from siamtrt.runtime.session import CheckedSession, Feeds

SMALL_BYTES = 8 << 20  # below this much weight, waking a third thread costs more than it computes
SMALL_THREADS = 2


class OrtSession(CheckedSession):
    """A graph in ONNX Runtime.

    INT8 is simulated: Q/DQ pairs are computed as they are written, in FP32, rather than fused to the CPU's integer
    kernels, whose saturation differs from one CPU to another and from TensorRT's.

    Args:
        model: the ONNX file, or its bytes.
        spec: its tensors, from the manifest.
        threads: intra-op threads; None chooses by the size of the weights.
        name: of the graph, for messages; by default the file's.
    """

    def __init__(
        self, model: Path | bytes, spec: GraphSpec, threads: int | None = None, name: str | None = None
    ) -> None:
        name = name or (model.stem if isinstance(model, Path) else "unnamed")
        super().__init__(name, "onnxruntime", spec)
        size_bytes = len(model) if isinstance(model, bytes) else model.stat().st_size
        options = session_options(size_bytes, threads)
        self._names = [output.name for output in spec.outputs]
        self._session: ort.InferenceSession | None = None
        given, where = (str(model), str(model)) if isinstance(model, Path) else (model, name)
        try:
            self._session = ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
            tensors = self._session.get_inputs(), self._session.get_outputs()
        except Exception as error:  # onnxruntime raises its own untyped exceptions
            raise BundleError(
                "ONNX Runtime cannot load the graph", received=f"{where}: {error}", expected="a graph it supports",
                fix="upgrade onnxruntime, or export the bundle again",
            ) from error
        found = [{tensor.name: tuple(tensor.shape) for tensor in side} for side in tensors]
        wanted = [{tensor.name: tensor.shape for tensor in side} for side in (spec.inputs, spec.outputs)]
        if found != wanted:
            raise BundleError(
                "manifest and graph disagree", received=f"{name} with {found}", expected=str(wanted),
                fix="export the bundle again",
            )

    def _run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        assert self._session is not None
        return dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))

    def close(self) -> None:
        super().close()
        self._session = None


def session_options(size_bytes: int, threads: int | None = None) -> ort.SessionOptions:
    """What every graph here runs with; see `OrtSession`. `size_bytes` is that of the model."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 3
    # Between frames the cores belong to whoever decodes the next one: threads must not spin on them.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is None:
        threads = min(SMALL_THREADS, os.cpu_count() or 1) if size_bytes < SMALL_BYTES else 0  # 0: one a core
    options.intra_op_num_threads = threads
    return options


def ort_session(bundle: Path, manifest: Manifest, graph: str, threads: int | None = None) -> OrtSession:
    """Session of a bundle's graph, its file's hash verified."""
    spec = manifest.graphs[graph]
    return OrtSession(verified_file(bundle, spec.file, spec.sha256), spec, threads)
