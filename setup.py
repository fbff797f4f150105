"""Maps each top-level folder to the package `siamtrt.<folder>`; everything else is in pyproject.toml."""

from setuptools import setup

FOLDERS = ("models", "export", "calibration", "kernels", "runtime", "service", "training", "benchmarks")

setup(
    packages=["siamtrt", *(f"siamtrt.{folder}" for folder in FOLDERS)],
    package_dir={"siamtrt": "siamtrt", **{f"siamtrt.{folder}": folder for folder in FOLDERS}},
    package_data={
        "siamtrt": ["py.typed", "weights/*"], "siamtrt.kernels": ["*.cu", "*.cuh", "*.h"],
        "siamtrt.benchmarks": ["*.html", "*.css"],
        "siamtrt.service": ["*.html", "*.css", "*.js"],
    },
)
