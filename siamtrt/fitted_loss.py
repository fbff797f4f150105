"""What was fitted to a tracker by training/loss_fit.py goes into its bundle."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from siamtrt.consistency import can_batch
from siamtrt.errors import SiamtrtError, TrainingError
from siamtrt.manifest import Manifest, Source, from_plain, load_manifest, save_manifest
from siamtrt.tracking import LossDetection

FITTER = "python -m siamtrt.training.loss_fit"


@dataclass(frozen=True)
class FittedLoss:
    """A loss detection, and the tracker it was fitted to."""

    model: str
    source: Source
    loss: LossDetection


def require_able(manifest: Manifest) -> None:
    """Raise `TrainingError` for a tracker that cannot have loss detection: no proposal head, or another strategy."""
    if not can_batch(manifest.decoding, manifest.strategies):
        raise TrainingError(
            "this tracker cannot have loss detection", received=f"{manifest.model}, {manifest.decoding.kind} head",
            expected="a proposal head and no other strategy", fix="name another bundle",
        )  # fmt: skip


def load_fitted_loss(path: Path) -> FittedLoss:
    """Read what `siamtrt.training.loss_fit -o` wrote, but for the figures of its quality.

    Raises:
        SiamtrtError: no such file, not JSON, or a field that is missing, unknown or of the wrong type.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise ValueError(f"{type(raw).__name__} where an object belongs")
        used = {field.name for field in dataclasses.fields(FittedLoss)}
        return from_plain(FittedLoss, {name: value for name, value in raw.items() if name in used})
    except (OSError, ValueError, RecursionError) as error:
        raise SiamtrtError(
            "no fitted loss detection", received=f"{path} ({error})", expected="the JSON of siamtrt.training.loss_fit",
            fix=f"write it with this version: {FITTER} BUNDLE --data DIR -o FIT",
        ) from error


def loss_for(manifest: Manifest, fit: Path) -> LossDetection:
    """What was fitted to a bundle's tracker.

    Raises:
        SiamtrtError: see `load_fitted_loss`; it was fitted to another tracker.
    """
    fitted = load_fitted_loss(fit)
    if (fitted.model, fitted.source.sha256) != (manifest.model, manifest.source.sha256):
        raise SiamtrtError(
            "loss detection of another tracker", received=f"{fit} of {_tracker(fitted.model, fitted.source)}",
            expected=f"one of {_tracker(manifest.model, manifest.source)}",
            fix=f"name its bundle, or fit it: {FITTER} BUNDLE --data DIR -o FIT",
        )  # fmt: skip
    return fitted.loss


def put_into_bundle(fit: Path, bundle: Path) -> None:
    """Replace the loss detection in a bundle's manifest; nothing else changes.

    Raises:
        BundleError: see `load_manifest`.
        SiamtrtError: see `loss_for`; the bundle's tracker cannot have loss detection, or not with these numbers; the
            manifest cannot be written.
    """
    manifest = load_manifest(bundle)
    require_able(manifest)
    strategies = dataclasses.replace(manifest.strategies, loss=loss_for(manifest, fit))
    try:
        changed = dataclasses.replace(manifest, strategies=strategies)
    except ValueError as error:
        raise SiamtrtError(
            "loss detection with numbers that cannot be", received=f"{fit} ({error})",
            expected="those that were fitted", fix=f"fit again: {FITTER} {bundle} --data DIR -o {fit}",
        ) from error
    save_manifest(changed, bundle)


def _tracker(model: str, source: Source) -> str:
    return f"{model} from {source.checkpoint}, sha256 {source.sha256[:12]}"
