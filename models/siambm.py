"""Siam-BM: SA-Siam whose semantic template leaves out the background of elongated targets.

He et al., ECCV Workshops 2018.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from siamtrt.models.sasiam import SASiam


class SiamBM(SASiam):
    """SA-Siam with a spatial mask on the template of the semantic branch; the appearance branch keeps every position.

    `search` is SA-Siam's: the samples of its batch are scale and angle candidates.

    The paper draws one mask for conv5 (6x6) and one for conv4 (8x8). Choices: the input is conv5's, whose border is
    repeated once for conv4, as conv5's position p sees conv4's p to p+2; it multiplies the fused embedding, after the
    attention, so that masked positions give nothing to the response, not even the fusion's bias.
    """

    def template_inputs(self) -> dict[str, Tensor]:
        return {"mask": torch.ones(1, 1, self.conv5.side, self.conv5.side)}

    def template(self, z: Tensor, mask: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """(1, 3, 255, 255) template crop and (1, 1, 6, 6) mask of zeros and ones -> as `SASiam.template`."""
        embedding4, embedding5 = self.semantic_embeddings(z)
        return self.kernels(z, embedding4 * F.pad(mask, (1, 1, 1, 1), mode="replicate"), embedding5 * mask)
