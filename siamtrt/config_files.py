"""Configs: YAML files read into frozen dataclasses, strictly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dacite
import yaml

from siamtrt.errors import SiamtrtError

LARGEST_CONFIG = 1 << 16  # bytes
Config = TypeVar("Config")


class _Plain(yaml.SafeLoader):
    """Without aliases, nine of which in one another are a billion values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias, *name")
        return super().compose_node(parent, index)


@dataclass(frozen=True)
class Example:
    """What the errors of a kind of config name: their class, where its fields are described, and an example."""

    error: type[SiamtrtError]
    described: str
    file: str

    def unusable(self, path: Path, mistake: str) -> SiamtrtError:
        """A file that can be read, and says something that cannot be."""
        return self.error(
            "unusable config", received=f"{path}: {mistake}", expected=f"the fields of {self.described}",
            fix=f"correct the field; {self.file} is an example",
        )  # fmt: skip

    def unreadable(self, path: Path, mistake: object) -> SiamtrtError:
        """A file that is no YAML."""
        return self.error(
            "unreadable config", received=f"{path} ({mistake})", expected="a YAML file", fix=f"see {self.file}"
        )


def read_config(path: Path, kind: type[Config], example: Example, *, tuples: tuple[Any, ...] = ()) -> Config:
    """Read a YAML file into a dataclass; whole numbers and `1e-3` are floats where one is expected.

    Args:
        tuples: the tuple types in `kind`'s fields, which YAML gives as lists.

    Raises:
        SiamtrtError: of the example's class; unreadable, an unknown or missing field, or one of another type.
    """
    plain = _read(path, example)
    hooks: dict[Any, Any] = {float: _as_float, int: _as_int, **dict.fromkeys(tuples, _as_tuple)}
    try:
        return dacite.from_dict(kind, plain, dacite.Config(strict=True, type_hooks=hooks))
    except dacite.DaciteError as mistake:
        raise example.unusable(path, str(mistake)) from mistake


def _read(path: Path, example: Example) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise ValueError(f"larger than {LARGEST_CONFIG} bytes")
        plain = yaml.load(path.read_text(encoding="utf-8"), _Plain)  # a SafeLoader
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as mistake:
        raise example.unreadable(path, mistake) from mistake
    if not isinstance(plain, dict):
        raise example.unusable(path, type(plain).__name__)
    return plain


def _as_float(value: Any) -> Any:
    """Also of a whole number, and of `1e-3`, which is text in YAML; other values dacite refuses."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return value
    try:
        return float(value)
    except (ValueError, OverflowError):
        return value


def _as_int(value: Any) -> Any:
    return str(value) if isinstance(value, bool) else value  # YAML's `yes` is no 1


def _as_tuple(value: Any) -> Any:
    if not isinstance(value, list):
        raise dacite.WrongTypeError(list, value)
    return tuple(value)
