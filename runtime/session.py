"""One contract for every backend: named, ordered tensors in; a dict of tensors out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from siamtrt.backends import BACKENDS, Backend
from siamtrt.closing import Closing
from siamtrt.errors import SessionError, SiamtrtError
from siamtrt.manifest import GraphSpec, Manifest, TensorSpec, load_manifest

Feeds = Mapping[str, np.ndarray]


class Session(Protocol):
    """A graph ready to run. `inputs` and `outputs` are in the manifest's order; `backend` says what runs it."""

    backend: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        """Compute every output from every input.

        The arrays returned belong to the caller until the next `run`.

        Raises:
            SessionError: an input is missing, unknown, or of another shape or dtype; the session is closed.
        """
        ...

    def close(self) -> None:
        """Free what the session holds; closing twice is allowed."""
        ...

    def __enter__(self) -> Session: ...

    def __exit__(self, *error: object) -> None: ...


class CheckedSession(Closing):
    """What the backends share: the checks of the contract."""

    def __init__(self, graph: str, backend: str, spec: GraphSpec) -> None:
        self.name, self.backend = f"the {graph} graph ({backend})", backend
        self.inputs, self.outputs = spec.inputs, spec.outputs
        self._expected = [(tensor.name, tensor.shape, np.dtype(tensor.dtype)) for tensor in spec.inputs]
        self._closed = False

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        """See `Session.run`."""
        if self._closed:
            raise SessionError(
                "session is closed", received=f"run() on {self.name}", expected="an open session",
                fix="open it again with open_session",
            )
        if len(feeds) != len(self._expected):
            raise self._mismatch(f"inputs {sorted(feeds)}")
        for name, shape, dtype in self._expected:
            array = feeds.get(name)
            if not isinstance(array, np.ndarray):
                found = f"inputs {sorted(feeds)}" if array is None else f"{name} as a {type(array).__name__}"
                raise self._mismatch(found)
            if array.shape != shape or array.dtype != dtype:
                raise self._mismatch(f"{name} {array.dtype}{array.shape}")
        return self._run(feeds)

    def _mismatch(self, received: str) -> SessionError:
        expected = ", ".join(f"{name} {dtype}{shape}" for name, shape, dtype in self._expected)
        return SessionError(
            f"wrong input of {self.name}", received=received, expected=expected,
            fix="pass exactly these arrays; session.inputs lists them",
        )

    def _run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def close(self) -> None:
        """See `Session.close`."""
        self._closed = True


def open_session(
    bundle: Path | str, graph: str, backend: Backend = "auto", *, threads: int | None = None,
    checkpoint: Path | str | None = None,
) -> Session:  # fmt: skip
    """Open one graph of a bundle.

    Args:
        bundle: directory written by `siamtrt export`.
        graph: "template", "search", or another graph of its manifest.
        backend: "onnxruntime" (CPU), "tensorrt" (an engine built for this GPU), "torch" (the module, from
            its checkpoint), or "auto": TensorRT where this machine can run an engine of the bundle, else
            ONNX Runtime.
        threads: CPU threads of one run; by default two for small networks, one a core for large ones.
        checkpoint: for "torch" only, the file the bundle was exported from.

    Raises:
        BundleError: the bundle is incomplete or edited.
        EngineError, MissingPackageError: the backend cannot run here.
        SiamtrtError: unknown graph or backend.
    """
    return open_sessions(bundle, (graph,), backend, threads=threads, checkpoint=checkpoint)[1][graph]


def open_sessions(
    bundle: Path | str, graphs: Sequence[str] | None = None, backend: Backend = "auto", *, threads: int | None = None,
    checkpoint: Path | str | None = None,
) -> tuple[Manifest, dict[str, Session]]:  # fmt: skip
    """Open several graphs of a bundle, by default all, on one backend, its manifest and checkpoint read once.

    Arguments and errors are those of `open_session`; if one graph fails, those already open are closed.
    """
    root = Path(bundle)
    manifest = load_manifest(root)
    known = tuple(manifest.graphs)
    graphs = known if graphs is None else graphs
    if not set(graphs) <= set(known) or backend not in BACKENDS:
        raise SiamtrtError(
            "no such session", received=f"graphs {tuple(graphs)}, backend {backend!r}",
            expected=f"graphs of {known}, backend of {BACKENDS}", fix="correct the name",
        )
    opener = _opener(root, manifest, backend, threads, checkpoint)
    sessions: dict[str, Session] = {}
    try:
        for graph in graphs:
            sessions[graph] = opener(graph)
    except BaseException:
        for session in sessions.values():
            session.close()
        raise
    return manifest, sessions


def _opener(
    root: Path, manifest: Manifest, backend: Backend, threads: int | None, checkpoint: Path | str | None
) -> Callable[[str], Session]:
    """What opens a graph of the bundle by name on the backend; does what both graphs share."""
    if backend == "auto":
        from siamtrt.runtime.engines import can_run_engines

        backend = "tensorrt" if can_run_engines(manifest) else "onnxruntime"
    if backend == "torch":
        from siamtrt.runtime.torch_session import TorchSession, load_module

        module = load_module(manifest, checkpoint, threads)
        return lambda graph: TorchSession(module, graph, manifest.graphs[graph])
    if backend == "tensorrt":
        from siamtrt.runtime.trt_session import trt_session

        return lambda graph: trt_session(root, manifest, graph)
    from siamtrt.runtime.ort_session import ort_session

    return lambda graph: ort_session(root, manifest, graph, threads)
