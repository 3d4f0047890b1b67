// Stands in for CUDA's header: the kernels of csrc/cuda run on the host, a warp at a time, its threads as coroutines
// that meet at each shuffle and vote. A thread that leaves while others wait at one is an error, as it is undefined on
// a GPU.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __shared__
#define __align__(bytes)
#define __launch_bounds__(...)

using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0;
constexpr int cudaDevAttrMultiProcessorCount = 0;
inline const char* cudaGetErrorString(cudaError_t) { return ""; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, int, int) { return *value = 2, cudaSuccess; }

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  explicit dim3(unsigned n) : x(n) {}
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_host {

constexpr int warp = 32;
inline ucontext_t scheduler, lanes[warp];
inline bool finished[warp];
inline int current;
inline char slots[warp][8];
inline std::function<void()> kernel;

inline void wait() { swapcontext(&lanes[current], &scheduler); }
inline void enter() {
  kernel();
  finished[current] = true;
}

inline void run_warp(unsigned first_thread) {
  static std::vector<char> stacks(warp << 18);
  for (int i = 0; i < warp; i++) {
    finished[i] = false;
    getcontext(&lanes[i]);
    lanes[i].uc_stack = {stacks.data() + (size_t(i) << 18), 0, size_t(1) << 18};
    lanes[i].uc_link = &scheduler;
    makecontext(&lanes[i], enter, 0);
  }
  for (int done = 0; done < warp;) {
    done = 0;
    for (int i = 0; i < warp; i++) {
      current = i;
      threadIdx.x = first_thread + i;
      swapcontext(&scheduler, &lanes[i]);
      done += finished[i];
    }
    if (done != 0 && done != warp) std::abort();
  }
}

template <class Grid>
void launch(Grid grid, int threads, size_t, cudaStream_t, std::function<void()> body) {
  gridDim = dim3(grid), blockDim.x = threads;
  kernel = body;
  for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)
    for (int first = 0; first < threads; first += warp) run_warp(first);
}

}  // namespace cuda_on_host

inline int __popc(uint32_t bits) { return __builtin_popcount(bits); }
inline int __ffs(uint32_t bits) { return __builtin_ffs(bits); }

inline void __syncwarp() { cuda_on_host::wait(); }
template <class T>
T __shfl_sync(unsigned, T value, int source) {
  using namespace cuda_on_host;
  std::memcpy(slots[current], &value, sizeof value);
  wait();
  std::memcpy(&value, slots[source % warp], sizeof value);
  wait();
  return value;
}
template <class T>
T __shfl_xor_sync(unsigned all, T value, int step) {
  return __shfl_sync(all, value, cuda_on_host::current ^ step);
}
inline uint32_t __ballot_sync(unsigned all, bool vote) {
  uint32_t votes = 0;
  for (int i = 0; i < cuda_on_host::warp; i++) votes |= uint32_t(__shfl_sync(all, vote, i)) << i;
  return votes;
}
