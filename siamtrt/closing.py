"""What has to be closed, as a context manager."""

from __future__ import annotations

from typing import TypeVar

Own = TypeVar("Own", bound="Closing")


class Closing:
    """A context manager of itself, closed at its end."""

    def close(self) -> None:
        """Free what it holds."""
        raise NotImplementedError

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
