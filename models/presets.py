"""Every tracker's preset by name."""

from __future__ import annotations

from siamtrt.errors import SiamtrtError
from siamtrt.models.preset import Preset
from siamtrt.models.presets_response import RESPONSE_PRESETS
from siamtrt.models.presets_rpn import RPN_PRESETS

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (*RPN_PRESETS, *RESPONSE_PRESETS)}


def get_preset(name: str) -> Preset:
    """Look a preset up by name.

    Raises:
        SiamtrtError: no such preset.
    """
    if name not in PRESETS:
        raise SiamtrtError(
            "unknown model", received=repr(name), expected=f"one of {', '.join(PRESETS)}", fix="choose one with --model"
        )
    return PRESETS[name]
