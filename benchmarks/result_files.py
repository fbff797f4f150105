"""Text files of a folder or of a .zip, and JSON that may be gzipped, all read in memory."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from siamtrt.errors import ResultsError

LARGEST_TEXT = 1 << 24  # bytes of one result file: 300,000 polygons; the longest sequences have 30,000 frames
LARGEST_JSON = 1 << 28  # bytes, unpacked; VOT2018's description has 4 MB, LaSOT's 50 MB
MOST_FILES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
SUFFIXES = (".txt", ".value")  # of regions or boxes, and of VOT's confidences


@dataclass(frozen=True)
class ResultFiles:
    """The .txt and .value files of a folder or of a .zip.

    Attributes:
        root: the folder or the .zip.
        names: their paths from there, with `/` between, sorted.
    """

    root: Path
    names: tuple[str, ...]

    @property
    def titled(self) -> Iterator[tuple[str, str]]:
        """Each name behind the folder's or archive's own, which may be the tracker's, and as it is."""
        root = self.root.resolve()
        title = root.name if root.is_dir() else root.stem
        return ((f"{title}/{name}", name) for name in self.names)

    @contextmanager
    def open(self) -> Iterator[OpenFiles]:
        """Keep a .zip open while its files are read."""
        if self.root.is_dir():
            yield OpenFiles(self.root, None)
            return
        with _readable(self.root):
            archive = zipfile.ZipFile(self.root)
        with archive:
            yield OpenFiles(self.root, archive)


@dataclass(frozen=True)
class OpenFiles:
    """What `ResultFiles.open` gives."""

    root: Path
    archive: zipfile.ZipFile | None

    def read(self, name: str) -> str:
        """A file's text.

        Raises:
            ResultsError: damaged, encrypted, no text, or larger than `LARGEST_TEXT`.
        """
        where = self.root / name
        with _readable(where), self._stream(name) as stream:
            data = stream.read(LARGEST_TEXT + 1)
            if len(data) > LARGEST_TEXT:
                raise _unreadable(where, f"more than {LARGEST_TEXT:,} bytes")
            return data.decode("utf-8-sig")

    def _stream(self, name: str) -> IO[bytes]:
        return (self.root / name).open("rb") if self.archive is None else self.archive.open(name)


def find_files(root: Path) -> ResultFiles:
    """The .txt and .value files below a folder, or in a .zip.

    Links to folders are not followed, and a link to a file outside is refused.

    Raises:
        ResultsError: neither folder nor .zip, one that cannot be read, a path that leaves it, or no such file.
    """
    if root.is_dir():
        names = list(_below(root))
    elif zipfile.is_zipfile(root):
        with _readable(root), zipfile.ZipFile(root) as archive:
            names = [info.filename for info in archive.infolist() if info.filename.endswith(SUFFIXES)]
    else:
        received = f"{root}, {'which is neither' if root.exists() else 'which does not exist'}"
        raise ResultsError(
            "no results", received=received, expected="a folder or a whole .zip", fix="check the path and the download"
        )
    for name in names:
        _require_inside(root, name)
    if not 0 < len(names) <= MOST_FILES:
        raise ResultsError(
            "no results", received=f"{len(names)} {SUFFIXES[0]} files in {root}", expected=f"1 to {MOST_FILES:,}",
            fix="name the folder that holds the trackers' folders",
        )
    return ResultFiles(root, tuple(sorted(names)))


def _below(root: Path) -> Iterator[str]:
    for folder, _, files in os.walk(root):
        for file in files:
            if file.endswith(SUFFIXES):
                yield (Path(folder) / file).relative_to(root).as_posix()


def _require_inside(root: Path, name: str) -> None:
    """Refuse a name that leads out of the folder; in a .zip also one that would, unpacked."""
    parts = name.replace("\\", "/").split("/")
    outside = ".." in parts or name.startswith(("/", "\\")) or ":" in parts[0]
    if root.is_dir():
        outside = not (root / name).resolve().is_relative_to(root.resolve())
    if outside:
        raise ResultsError(
            "a file outside the results", received=f"{name!r} in {root}", expected="paths that stay inside",
            fix="remove that file or link",
        )


def read_json(path: Path) -> Any:
    """Parse a JSON file, gzipped or not.

    Raises:
        ResultsError: no such file, damaged, larger than `LARGEST_JSON`, or no JSON.
    """
    with _readable(path):
        with path.open("rb") as plain:
            packed = plain.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        with gzip.open(path) if packed else path.open("rb") as stream:
            data = stream.read(LARGEST_JSON + 1)
        if len(data) > LARGEST_JSON:
            raise _unreadable(path, f"more than {LARGEST_JSON:,} bytes")
        return json.loads(data)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what readers raise on damaged files into one error."""
    try:
        yield
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        raise _unreadable(path, str(error) or type(error).__name__) from error
    except (ValueError, RuntimeError) as error:  # bad or too deep JSON, bad UTF-8, an encrypted member
        raise _unreadable(path, str(error)) from error


def _unreadable(path: Path, received: str) -> ResultsError:
    return ResultsError(
        "unreadable file", received=f"{path}: {received}", expected="a whole, unencrypted file of text",
        fix="copy or download it again",
    )
