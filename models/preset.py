"""What a tracker's preset holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from siamtrt.manifest import PaperFigure
from siamtrt.models.network import SiameseNetwork
from siamtrt.tracking import Constants, Decoding, Preprocessing, Strategies

Names = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Preset:
    """What `export` must know of a tracker beyond its weights.

    `build` makes the untrained network; `verified` says against what the network was checked. `author_names`
    maps the beginnings of the authors' parameter names to ours, where those differ from pysot's.
    """

    name: str
    paper: str
    build: Callable[[], SiameseNetwork]
    preprocessing: Preprocessing
    decoding: Decoding
    tracking: Constants
    paper_figure: PaperFigure | None = None
    note: str | None = None
    verified: str = "outputs of pysot on seeded weights"
    author_names: Names = ()
    strategies: Strategies = Strategies()  # noqa: RUF009  frozen
