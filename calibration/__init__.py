"""Tracking-aware calibration: crop pairs, ranges, Q/DQ graphs. Empty until INT8 lands; FP16 needs no calibration."""
