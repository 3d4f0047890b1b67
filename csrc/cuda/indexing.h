// The index arithmetic of the CUDA launches: plain host-and-device code, so that tests run it without a GPU.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "../broadcast.h"
#include "../math/generic.h"

namespace vmf_ops {
namespace cuda {

inline constexpr int block_threads = 256, warp_threads = 32;

// ---- Element-wise functions ----

// Division by a number known at launch: a multiplication for dividends below 2^31 (Granlund and Montgomery 1994).
struct Divisor {
  int64_t value = 1;
  uint32_t multiplier = 1;
  int shift = 0;

  Divisor() = default;
  explicit Divisor(int64_t divisor) : value(divisor) {
    if (wide()) return;
    while (int64_t(1) << shift < divisor) shift++;
    multiplier = uint32_t((((uint64_t(1) << shift) - uint64_t(divisor)) << 32) / uint64_t(divisor) + 1);
  }
  VMF_HD bool wide() const { return value >> 31 != 0; }
  VMF_HD int64_t divide(int64_t a) const { return a >> 31 != 0 || wide() ? a / value : narrow(uint32_t(a)); }
  // For a and the divisor below 2^31.
  VMF_HD uint32_t narrow(uint32_t a) const { return (uint32_t(uint64_t(a) * multiplier >> 32) + a) >> shift; }
};

// Where element i of a broadcast pair lies. Adjacent dimensions are merged where both inputs allow it: one is left of
// an array in order or of a fixed number, two of an order per column.
struct Layout {
  static constexpr int max_dims = 25;  // as in torch
  int64_t numel = 0;
  int dims = 1;
  Divisor sizes[max_dims];  // innermost first
  int64_t v_strides[max_dims] = {}, x_strides[max_dims] = {};

  explicit Layout(const Broadcast& shape) : numel(shape.numel) {
    int64_t extents[max_dims] = {1};
    int count = 0;
    for (size_t d = shape.sizes.size(); d-- > 0;) {
      const int64_t size = shape.sizes[d], v = shape.v_strides[d], x = shape.x_strides[d];
      if (size == 1) continue;
      const int last = count - 1;
      if (count > 0 && v == v_strides[last] * extents[last] && x == x_strides[last] * extents[last]) {
        extents[last] *= size;
        continue;
      }
      if (count == max_dims) throw std::invalid_argument("tensors have more than 25 dimensions that do not merge");
      extents[count] = size, v_strides[count] = v, x_strides[count] = x;
      count++;
    }
    if (count > 0) dims = count;
    for (int d = 0; d < count; d++) sizes[d] = Divisor(extents[d]);
  }

  bool v_fixed() const {
    for (int d = 0; d < dims; d++)
      if (v_strides[d] != 0) return false;
    return true;
  }
  bool v_in_order() const { return dims == 1 && v_strides[0] == 1; }
  bool x_in_order() const { return dims == 1 && x_strides[0] == 1; }

  struct Offsets {
    int64_t v, x;
  };
  VMF_HD Offsets at(int64_t i) const {
    Offsets offsets{0, 0};
#ifdef __CUDA_ARCH__
#pragma unroll 1
#endif
    for (int d = 0; d < dims - 1; d++) {
      const int64_t rest = sizes[d].divide(i), digit = i - rest * sizes[d].value;
      offsets.v += digit * v_strides[d], offsets.x += digit * x_strides[d];
      i = rest;
    }
    return {offsets.v + i * v_strides[dims - 1], offsets.x + i * x_strides[dims - 1]};
  }
};

// The numbers that a thread reads and writes at once: 16 bytes.
template <class T>
inline constexpr int pack_size = 16 / sizeof(T);

// Blocks for so many packs, `most` at most: each thread then goes on by the size of the grid.
inline int64_t grid_blocks(int64_t packs, int64_t most) {
  return std::min((packs + block_threads - 1) / block_threads, most);
}

// step(first element) for the packs of one thread of a grid.
template <int size, class Step>
VMF_HD void for_packs(int64_t numel, int64_t thread, int64_t threads, Step step) {
  for (int64_t first = thread * size; first < numel; first += threads * size) step(first);
}

// ---- Sampling ----

// A launch over shells of different dimensions: rows go in chunks of block_threads; a chunk's blocks stand together, a
// shell's `lanes` blocks of them after another, in which `lanes` neighbouring threads share a row. So all shells of a
// row are written at about one time.
struct Shells {
  static constexpr int most = 64;
  int64_t rows = 0, m[most], offset[most];
  int count = 0, number[most], lanes[most], lane_bits[most], first_block[most + 1] = {0};  // lanes: 1 << lane_bits
  Divisor per_chunk;

  int64_t blocks() const { return (rows + block_threads - 1) / block_threads * first_block[count]; }

  void add(int shell, int64_t dimension, int64_t at, int threads_per_row) {
    number[count] = shell, m[count] = dimension, offset[count] = at, lanes[count] = threads_per_row;
    first_block[count + 1] = first_block[count] + threads_per_row;
    lane_bits[count] = 0;
    while (1 << lane_bits[count] < threads_per_row) lane_bits[count]++;
    per_chunk = Divisor(first_block[++count]);
  }

  struct Place {
    int shell, lane;  // shell: its index in this launch
    int64_t row;      // may lie behind the last
  };
  VMF_HD Place place(uint32_t block, uint32_t thread) const {
    const uint32_t chunk = per_chunk.narrow(block), within = block - chunk * uint32_t(per_chunk.value);
    int shell = within < uint32_t(count) ? int(within) : count - 1;  // which it is where every shell has one block
    while (within < uint32_t(first_block[shell])) shell--;
    const uint32_t bits = uint32_t(lane_bits[shell]);
    const uint32_t row = ((within - uint32_t(first_block[shell])) * block_threads + thread) >> bits;
    return {shell, int(thread & ((1u << bits) - 1)), int64_t(chunk) * block_threads + row};
  }
};

// The launches over those of the shells that threads_per_row(m) gives threads, at most Shells::most at a time.
template <class Lanes>
std::vector<Shells> plan(std::span<const int64_t> dims, int64_t rows, Lanes threads_per_row) {
  std::vector<Shells> launches;
  int64_t offset = 0;
  for (size_t shell = 0; shell < dims.size(); offset += dims[shell++]) {
    const int lanes = threads_per_row(dims[shell]);
    if (lanes == 0 || rows == 0) continue;
    if (launches.empty() || launches.back().count == Shells::most) launches.emplace_back().rows = rows;
    launches.back().add(int(shell), dims[shell], offset, lanes);
  }
  return launches;
}

// The threads of a row of m numbers, `each` to a thread where a warp allows: a power of two.
VMF_HD int row_lanes(int64_t m, int each) {
  int lanes = 1;
  while (lanes < warp_threads && int64_t(lanes) * each < m) lanes *= 2;
  return lanes;
}

// a / b for 0 <= a < 1024 and 0 < b < 1024.
VMF_HD int small_quotient(int a, int b) { return int(quotient(float(a) + 0.5f, float(b))); }

// The component of a long shell that a thread of its warp makes as normal number i of its `step`-th Philox index; the
// index. See tangent_bits in math/sampling.h: 16 indices stand for 16*per_index components.
template <int per_index>
struct LongShell {
  static constexpr int span = 16 * per_index;
  VMF_HD static int64_t start(int64_t step, int lane) { return (2 * step + lane / 16) * span; }
  VMF_HD static uint32_t index(int64_t step, int lane) { return uint32_t(start(step, lane) / per_index + lane % 16); }
  VMF_HD static int64_t component(int64_t step, int lane, int i) { return start(step, lane) + 16 * i + lane % 16; }
};

}  // namespace cuda
}  // namespace vmf_ops
