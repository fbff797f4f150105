"""SiamFC: one response map, the correlation of two embeddings (SiamFC, eq. 1 and sec. 2.2)."""

from __future__ import annotations

from torch import Tensor, nn

from siamtrt.models.network import SiameseNetwork
from siamtrt.models.xcorr import shared_xcorr


class SiamFC(SiameseNetwork):
    """Correlates the search embedding with the template's, which carries the response's scale.

    Args:
        backbone: pixels -> [one feature level].
        scale: of the response, 0.001 in siamfc-pytorch and 0.1 in SiamDW; folded into the kernel.
    """

    outputs = ("response",)

    def __init__(self, backbone: nn.Module, scale: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.scale = scale

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, T, T) template crop -> (1, C, t, t) kernel."""
        return (self.backbone(z)[-1] * self.scale,)

    def search(self, x: Tensor, kernel: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, S, S) search crops, one a scale, and the kernel -> (N, 1, R, R) response."""
        return (shared_xcorr(self.backbone(x)[-1], kernel),)
