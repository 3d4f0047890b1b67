"""The launchers and kernels of csrc/cuda compiled for the host, with a header that stands in for CUDA's."""
