"""What a tracker is beside tracking: an open bundle that has to be closed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from siamtrt.backends import Backend
from siamtrt.closing import Closing
from siamtrt.default_tracker import default_bundle
from siamtrt.manifest import Manifest
from siamtrt.runtime.session import Session, open_sessions

Owner = TypeVar("Owner", bound="SessionOwner")


class SessionOwner(Closing):
    """Holds a bundle's sessions; a context manager that closes them.

    Args:
        manifest: of the bundle the sessions come from.
        sessions: one of each of its graphs.
    """

    def __init__(self, manifest: Manifest, sessions: Mapping[str, Session]) -> None:
        self.manifest = manifest
        self._sessions = dict(sessions)

    @classmethod
    def load(
        cls: type[Owner], bundle: Path | str | None = None, backend: Backend = "auto", *, threads: int | None = None,
        checkpoint: Path | str | None = None,
    ) -> Owner:  # fmt: skip
        """Open a bundle, the default tracker's unless one is named; arguments and errors are those of `open_session`.

        Raises:
            SiamtrtError: the bundle is for another number of targets.
        """
        bundle = default_bundle() if bundle is None else bundle
        manifest, sessions = open_sessions(bundle, backend=backend, threads=threads, checkpoint=checkpoint)
        try:
            return cls(manifest, sessions)
        except BaseException:
            for session in sessions.values():
                session.close()
            raise

    @property
    def backend(self) -> str:
        """What runs the search graph: "onnxruntime", "tensorrt", "tensorrt_rtx" or "torch"."""
        return self._sessions["search"].backend

    def close(self) -> None:
        """Free the sessions."""
        for session in self._sessions.values():
            session.close()
