// racecheck, initcheck and memcheck for kernels on the host: they are compiled with -fsanitize=thread, whose calls at
// each access of memory come here and not to a sanitizer.
//
// Two accesses of different threads to one place, one of them a write, race unless a barrier that orders memory lies
// between them: __syncwarp for threads of a warp, __syncthreads for those of a block. A shuffle or a vote orders nothing.
#include <algorithm>
#include <memory>

#include "cuda_runtime.h"

namespace cuda_on_host {
namespace {

constexpr uint32_t nobody = ~0u;

struct Access {
  uint32_t thread = nobody, time = 0;  // thread: counted through the grid
};

// What the threads of a launch have done with a byte.
struct Shadow {
  Access write, read;
  bool several = false, apart = false;  // several threads have read it; threads of several warps
};

struct Array {
  const char* begin;
  size_t size;
  bool writable;
  std::vector<bool> written;  // in this launch or before
  std::vector<Shadow> shadows;

  Array(const char* begin, size_t size, bool writable, bool written)
      : begin(begin), size(size), writable(writable), written(size, written), shadows(writable ? size : 0) {}
};

std::vector<Array> arrays;  // the device's memory
std::vector<Array> block;   // one: the shared memory of the block that runs

uint32_t thread_in_grid() { return blockIdx.x * blockDim.x + uint32_t(current); }

// Whether what that thread (or others of its warp, or of its block) did comes before what this one does.
bool ordered(Access before, bool several, bool apart) {
  const uint32_t thread = thread_in_grid();
  if (before.thread == nobody || (before.thread == thread && !several)) return true;
  if (before.thread / blockDim.x != blockIdx.x) return false;
  if (before.thread / warp == thread / warp && !apart && warp_met[size_t(current / warp)] > before.time) return true;
  return block_met > before.time;
}

void access(Array& array, size_t at, bool write) {
  Shadow& shadow = array.shadows[at];
  if (!ordered(shadow.write, false, false))
    report(write ? "a race: two threads write one place" : "a race: another thread writes what one reads");
  const uint32_t thread = thread_in_grid();
  if (write) {
    if (!ordered(shadow.read, shadow.several, shadow.apart)) report("a race: a write of what another thread reads");
    shadow = {{thread, now}, {}};
    array.written[at] = true;
    return;
  }
  if (!array.written[at]) report("a read of memory that nobody wrote");
  if (ordered(shadow.read, shadow.several, shadow.apart)) {
    shadow.several = shadow.apart = false;
  } else if (shadow.read.thread != thread) {
    shadow.several = true;
    shadow.apart |= shadow.read.thread / warp != thread / warp;
  }
  shadow.read = {thread, now};
}

// Whether the access lies in one of these, or in its margin.
bool find(std::vector<Array>& among, const char* p, size_t size, bool write) {
  bool near = false;
  for (Array& array : among) {
    if (p >= array.begin && p + size <= array.begin + array.size) {
      if (write && !array.writable) report("a write to an input");
      for (size_t k = 0; k < size && array.writable; k++) access(array, size_t(p - array.begin) + k, write);
      return true;
    }
    near |= p + margin >= array.begin && p < array.begin + array.size + margin;
  }
  if (near) report(write ? "a write out of bounds" : "a read out of bounds");
  return near;
}

void any_access(const void* p, size_t size, bool write) {
  if (!running) return;
  running = false;
  const char* at = static_cast<const char*>(p);
  const Thread& thread = threads[size_t(current)];
  const bool own = at >= thread.stack.data() && at < thread.stack.data() + thread.stack.size();
  if (!own && !find(block, at, size, write)) find(arrays, at, size, write);
  running = true;
}

}  // namespace

void begin_block() {
  block.clear();
  if (!shared.empty()) block.emplace_back(shared.data(), shared.size(), true, false);
}
void begin_launch() {
  for (Array& array : arrays) std::fill(array.shadows.begin(), array.shadows.end(), Shadow());
}

}  // namespace cuda_on_host

extern "C" {
void watch(const char* begin, int64_t size, bool writable, bool written) {
  cuda_on_host::arrays.emplace_back(begin, size_t(size), writable, written);
}
void forget() { cuda_on_host::arrays.clear(); }
void set_order(int order) { cuda_on_host::order = order, cuda_on_host::random.seed(unsigned(order)); }

#define ACCESS(size)                                                                       \
  void __tsan_read##size(void* p) { cuda_on_host::any_access(p, size, false); }            \
  void __tsan_write##size(void* p) { cuda_on_host::any_access(p, size, true); }            \
  void __tsan_unaligned_read##size(void* p) { cuda_on_host::any_access(p, size, false); }  \
  void __tsan_unaligned_write##size(void* p) { cuda_on_host::any_access(p, size, true); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
void __tsan_read_range(void* p, size_t size) { cuda_on_host::any_access(p, size, false); }
void __tsan_write_range(void* p, size_t size) { cuda_on_host::any_access(p, size, true); }
unsigned char __tsan_atomic8_load(const volatile unsigned char* p, int) { return *p; }
int __tsan_atomic32_load(const volatile int* p, int) { return *p; }
void __tsan_atomic32_store(volatile int* p, int value, int) { *p = value; }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
}
