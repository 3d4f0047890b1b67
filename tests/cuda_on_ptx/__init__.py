"""The machine code of the CUDA kernels without a GPU: the PTX that nvcc makes of them, executed on the CPU."""
