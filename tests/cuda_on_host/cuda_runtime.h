// Stands in for CUDA's header. The kernels of csrc/cuda run on the host, a block at a time, its threads as coroutines
// that meet at each shuffle, vote and barrier; or, with CUDA_ON_HOST_CAPTURE, their launches are only written down.
#pragma once

#include <dlfcn.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <stdexcept>
#include <span>
#include <string>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __align__(bytes)
#define __launch_bounds__(...)
#define __restrict__

using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0;
constexpr int cudaDevAttrMultiProcessorCount = 0;
inline const char* cudaGetErrorString(cudaError_t) { return ""; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, int, int) { return *value = 2, cudaSuccess; }
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int, size_t) {
  return *blocks = 8, cudaSuccess;
}

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  explicit dim3(unsigned n) : x(n) {}
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_host {

// What a block may ask for without cudaFuncSetAttribute.
constexpr size_t most_shared = 48 * 1024;

constexpr int warp = 32;

// Where a thread stands: before its kernel, where its warp or its block has to come too, or at its end.
enum class At { start, shuffle, vote, warp_barrier, block_barrier, end };
struct Thread {
  ucontext_t start;
  jmp_buf here;
  std::vector<char> stack = std::vector<char>(1 << 17);
  At at;
};
inline std::vector<Thread> threads;
inline jmp_buf scheduler;
inline int current;
inline char slots[1024][8];
inline std::function<void()> kernel;

// For the checks: whether a thread of a kernel runs, the time, counted in meetings, and when each warp and the block
// last met at a barrier that orders memory.
inline bool running;
inline uint32_t now, block_met;
inline std::vector<uint32_t> warp_met;
constexpr size_t margin = 4096;  // bytes beside an array where an access counts as one out of its bounds
alignas(16) inline char shared_room[margin + most_shared + margin];
inline std::span<char> shared;  // the block's shared memory, as large as the launch asks for
void begin_block();               // checks.cpp: shared memory holds nothing
void begin_launch();
inline std::string fault;  // the first
inline void report(const std::string& what) {
  if (fault.empty()) fault = what;
}

// The order in which the threads of a warp take their turns: 0 as they stand, 1 backwards, else at random.
inline int order;
inline std::minstd_rand random;

// A context only starts a thread; jumps, which need no system call, switch between them.
inline void wait(At at) {
  threads[current].at = at;
  if (!_setjmp(threads[current].here)) _longjmp(scheduler, 1);
}
inline void enter() {
  kernel();
  threads[current].at = At::end;
  _longjmp(scheduler, 1);
}
inline void resume(Thread& thread) {
  if (_setjmp(scheduler)) return;
  if (thread.at == At::start)
    setcontext(&thread.start);
  else
    _longjmp(thread.here, 1);
}

// The threads of a warp from `first` on, each to its next meeting; where they have met.
inline At advance(int first) {
  int turns[warp];
  std::iota(turns, turns + warp, first);
  if (order == 1) std::reverse(turns, turns + warp);
  if (order > 1) std::shuffle(turns, turns + warp, random);
  for (int thread : turns) {
    current = thread;
    threadIdx.x = unsigned(thread);
    running = true;
    resume(threads[thread]);
    running = false;
  }
  const At at = threads[first].at;
  for (int thread : turns)
    if (threads[thread].at != at) report("the threads of a warp part: some come to a meeting that others do not");
  now++;
  if (at == At::warp_barrier) warp_met[first / warp] = now;
  return at;
}

inline void run_block(int count) {
  for (int i = 0; i < count; i++) {
    Thread& thread = threads[i];
    thread.at = At::start;
    getcontext(&thread.start);
    thread.start.uc_stack.ss_sp = thread.stack.data(), thread.start.uc_stack.ss_size = thread.stack.size();
    makecontext(&thread.start, enter, 0);
  }
  while (fault.empty()) {
    int ended = 0, at_barrier = 0;
    for (int first = 0; first < count; first += warp) {
      At at = threads[first].at;
      while (at != At::block_barrier && at != At::end && fault.empty()) at = advance(first);
      (at == At::end ? ended : at_barrier) += warp;
    }
    if (ended == count || !fault.empty()) return;
    if (at_barrier != count) return report("threads of a block come to a barrier that others do not");
    block_met = ++now;
    for (int first = 0; first < count; first += warp) advance(first);
  }
}

#ifdef CUDA_ON_HOST_CAPTURE

struct Launch {
  std::string symbol;  // the kernel's, mangled
  unsigned grid;
  int threads;
  size_t shared;
  std::string parameters;  // the bytes that the kernel is given
};

inline std::vector<Launch> launches;

// Called by a kernel in place of its body.
template <class... Parameters>
void record(void* kernel, const Parameters&... parameters) {
  Launch& launch = launches.back();
  Dl_info info;
  if (!dladdr(kernel, &info) || !info.dli_sname) throw std::logic_error("a kernel without a symbol");
  launch.symbol = info.dli_sname;
  auto pack = [&]<class T>(const T& parameter) {
    launch.parameters.resize((launch.parameters.size() + alignof(T) - 1) / alignof(T) * alignof(T));
    launch.parameters.append(reinterpret_cast<const char*>(&parameter), sizeof(T));
  };
  (pack(parameters), ...);
}

template <class Grid>
void launch(Grid grid, int threads, size_t shared, cudaStream_t, std::function<void()> kernel) {
  launches.push_back({"", dim3(grid).x, threads, shared, ""});
  kernel();
}

#else

template <class Grid>
void launch(Grid grid, int count, size_t bytes, cudaStream_t, std::function<void()> body) {
  gridDim = dim3(grid), blockDim.x = unsigned(count);
  if (count % warp != 0 || count > 1024 || bytes > most_shared)
    throw std::logic_error("a launch that a GPU refuses");
  kernel = body;
  shared = {shared_room + margin, bytes};
  std::fill(shared.begin(), shared.end(), char(0xCD));
  if (threads.size() < size_t(count)) threads.resize(size_t(count));
  begin_launch();
  for (blockIdx.x = 0; blockIdx.x < gridDim.x && fault.empty(); blockIdx.x++) {
    warp_met.assign(size_t(count / warp), 0), block_met = 0;
    begin_block();
    run_block(count);
  }
  if (!fault.empty()) throw std::runtime_error(std::exchange(fault, ""));
}

#endif

}  // namespace cuda_on_host

inline int __popc(uint32_t bits) { return __builtin_popcount(bits); }
inline int __ffs(uint32_t bits) { return __builtin_ffs(int(bits)); }

inline void __syncwarp() { cuda_on_host::wait(cuda_on_host::At::warp_barrier); }
inline void __syncthreads() { cuda_on_host::wait(cuda_on_host::At::block_barrier); }
template <class T>
T __shfl_sync(unsigned, T value, int source) {
  using namespace cuda_on_host;
  std::memcpy(slots[current], &value, sizeof value);
  wait(At::shuffle);
  std::memcpy(&value, slots[current / warp * warp + source % warp], sizeof value);
  wait(At::shuffle);
  return value;
}
template <class T>
T __shfl_up_sync(unsigned all, T value, int step) {
  const int lane = cuda_on_host::current % cuda_on_host::warp;
  return __shfl_sync(all, value, lane < step ? lane : lane - step);
}
template <class T>
T __shfl_xor_sync(unsigned all, T value, int step) {
  return __shfl_sync(all, value, cuda_on_host::current ^ step);
}
inline uint32_t __ballot_sync(unsigned, bool vote) {
  using namespace cuda_on_host;
  slots[current][0] = vote;
  wait(At::vote);
  uint32_t votes = 0;
  for (int i = 0; i < warp; i++) votes |= uint32_t(slots[current / warp * warp + i][0]) << i;
  wait(At::vote);
  return votes;
}
