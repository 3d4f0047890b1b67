// What every launcher needs of the CUDA runtime.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <stdexcept>
#include <string>

#include "../math/generic.h"

namespace vmf_ops {
namespace cuda {

// The blocks that a multiprocessor is to hold, which bounds the registers: 80 in float and 128 in double arithmetic.
template <class T>
inline constexpr int resident_blocks = is_double<T> ? 2 : 3;

inline void check(cudaError_t error) {
#ifdef VMF_OPS_CUDA_ARCHS
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorUnsupportedPtxVersion)
    throw std::runtime_error(
        "CUDA: vmf_ops was built for the architectures " VMF_OPS_CUDA_ARCHS ", and none of them runs on this device (" +
        std::string(cudaGetErrorString(error)) + "): build it again with CUDAARCHS set to the device's");
#endif
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

// The blocks of a kernel, of `threads` threads and `shared` bytes, that the current device holds at once; a device is
// asked once for each kernel.
template <auto kernel>
int64_t resident(int threads, size_t shared) {
  constexpr int devices = 64;
  static std::atomic<int> known[devices];
  int device;
  check(cudaGetDevice(&device));
  int count = device < devices ? known[device].load(std::memory_order_relaxed) : 0;
  if (count == 0) {
    int processors, blocks;
    check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, shared));
    count = processors * (blocks > 0 ? blocks : 1);
    if (device < devices) known[device].store(count, std::memory_order_relaxed);
  }
  return count;
}

// So many blocks side by side.
inline dim3 grid(int64_t blocks) {
  if (blocks > INT32_MAX)
    throw std::invalid_argument("a launch of " + std::to_string(blocks) + " blocks, more than CUDA's 2147483647");
  return dim3(unsigned(blocks));
}

}  // namespace cuda
}  // namespace vmf_ops
