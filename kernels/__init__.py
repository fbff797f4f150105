"""Kernels beside their NumPy references. CUDA sources come with the device-resident tracker."""
