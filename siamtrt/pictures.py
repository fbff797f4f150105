"""Pictures, drawn by matplotlib where it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siamtrt.packages import import_package

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, dpi: int = 120) -> Figure:
    """An empty one of so many inches, which draws without a display.

    Raises:
        MissingPackageError: no matplotlib.
    """
    figures = import_package("matplotlib.figure", "the picture")
    figure: Figure = figures.Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    return figure
