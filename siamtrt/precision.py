"""Names and defaults of calibration and comparison, apart from their code, so that the command line starts fast."""

from __future__ import annotations

ESTIMATORS = ("min-max", "percentile", "entropy", "mse")  # of INT8 ranges
AUTO = "auto"  # for each tensor the estimator that disturbs the outputs least
DEFAULT_PAIRS = 256
DEFAULT_IOU_DROP = 0.02
DEFAULT_AUC_DROP = 0.02  # what `siamtrt compare` lets a variant lose
