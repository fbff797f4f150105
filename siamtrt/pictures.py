"""Pictures, drawn by matplotlib where it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siamtrt.errors import MissingPackageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, dpi: int = 120) -> Figure:
    """An empty one of so many inches, which draws without a display.

    Raises:
        MissingPackageError: no matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError(
            "the picture needs matplotlib", received="none", expected="matplotlib",
            fix="pip install 'siamtrt[report]'",
        ) from error  # fmt: skip
    return Figure(figsize=(width, height), dpi=dpi, layout="constrained")
