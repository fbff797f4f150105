"""The tracker that comes with siamtrt: its weights, and its exported bundle."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

from siamtrt.errors import BundleError
from siamtrt.files import staged_directory

WEIGHTS = Path(__file__).with_name("weights") / "default.safetensors"
ARCHIVE = WEIGHTS.with_name("default.tar.xz")  # the bundle: its two graphs share their backbone, which xz stores once


def default_bundle() -> Path:
    """The default tracker's bundle, unpacked into the user's cache when it is first asked for.

    The cache is `$XDG_CACHE_HOME/siamtrt`, or `~/.cache/siamtrt`; another version's bundle lies beside it.

    Raises:
        BundleError: the installation has no such file, or a damaged one.
        SiamtrtError: the cache cannot be written.
    """
    try:
        content = ARCHIVE.read_bytes()
    except OSError as error:
        raise _damaged(error) from error
    folder = _cache() / f"default-{hashlib.sha256(content).hexdigest()[:16]}"
    if not folder.exists():
        with staged_directory(folder) as staging:
            _unpack(content, staging)
    return folder


def _unpack(content: bytes, folder: Path) -> None:
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(folder, filter="data")
    except (OSError, EOFError, tarfile.TarError) as error:
        raise _damaged(error) from error


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "siamtrt"


def _damaged(error: Exception) -> BundleError:
    return BundleError(
        "the default tracker is not there", received=f"{ARCHIVE} ({error})",
        expected="the file siamtrt is installed with", fix="install siamtrt again, or name a bundle",
    )
