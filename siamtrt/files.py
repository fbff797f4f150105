"""Files and folders that are whole or absent: written beside their place, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from siamtrt.errors import SiamtrtError


def require_place(target: Path) -> None:
    """Raise where a file could not be written; for work that takes long before it writes.

    Raises:
        SiamtrtError: the parent directory does not exist, or the target is a directory.
    """
    if not target.parent.is_dir() or target.is_dir():
        raise _unwritable(target, "no such directory" if not target.is_dir() else "a directory")


@contextmanager
def staged_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` with its suffix; rename it on success, delete it on failure.

    Raises:
        SiamtrtError: the parent directory does not exist, the target is a directory, or it cannot be written.
    """
    require_place(target)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise _unwritable(target, error.strerror) from error
    os.close(handle)
    staging = Path(name)
    try:
        yield staging
        staging.chmod(0o666 & ~_umask())
        staging.replace(target)
    finally:
        staging.unlink(missing_ok=True)


@contextmanager
def staged_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory beside `target`; put it in `target`'s place on success, delete it on failure.

    Directories above `target` are made where they lack, and removed again on failure.

    Raises:
        SiamtrtError: the directory cannot be made there.
    """
    target = target.resolve()  # "." has no name, and a link would be replaced instead of what it names
    above = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        _remove_empty(above)
        raise _unwritable(target, error.strerror) from error
    try:
        yield staging
        staging.chmod(0o777 & ~_umask())
        _swap_in(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _remove_empty(above)


def _remove_empty(folders: list[Path]) -> None:
    """Remove directories, innermost first, up to the first that is not empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _unwritable(target: Path, reason: str | None) -> SiamtrtError:
    return SiamtrtError(
        "cannot write the output", received=f"{target} ({reason})", expected="a new name in a directory you may write",
        fix=f"create {target.parent} first, or choose another name",
    )


def _swap_in(staging: Path, target: Path) -> None:
    """Rename `staging` to `target`; an old `target` comes back if that fails."""
    if not target.exists():
        staging.rename(target)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent)) / target.name
    target.rename(retired)
    try:
        staging.rename(target)
    except OSError:
        retired.rename(target)
        raise
    finally:
        shutil.rmtree(retired.parent, ignore_errors=True)


def write_whole(target: Path, data: bytes) -> None:
    """Write bytes to a file so that a reader sees the old content or the new one, never part."""
    with staged_file(target) as staging:
        staging.write_bytes(data)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
