// Walks two strided inputs broadcast against each other, in the order of a contiguous output.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace vmf_ops {

struct Broadcast {
  std::vector<int64_t> sizes;                 // of the output
  std::vector<int64_t> v_strides, x_strides;  // in elements, 0 where broadcast
  int64_t numel = 1;

  template <class Shape>
  Broadcast(const Shape& v_sizes, const Shape& v_steps, const Shape& x_sizes, const Shape& x_steps) {
    const size_t v_dim = v_sizes.size(), x_dim = x_sizes.size(), dim = v_dim > x_dim ? v_dim : x_dim;
    sizes.resize(dim), v_strides.resize(dim), x_strides.resize(dim);
    for (size_t d = 0; d < dim; d++) {
      const bool in_v = d + v_dim >= dim, in_x = d + x_dim >= dim;
      const int64_t a = in_v ? v_sizes[d + v_dim - dim] : 1, b = in_x ? x_sizes[d + x_dim - dim] : 1;
      if (a != b && a != 1 && b != 1)
        throw std::runtime_error("sizes " + std::to_string(a) + " and " + std::to_string(b) +
                                 " do not broadcast in one dimension");
      sizes[d] = a == 1 ? b : a;
      v_strides[d] = a == 1 ? 0 : v_steps[d + v_dim - dim];
      x_strides[d] = b == 1 ? 0 : x_steps[d + x_dim - dim];
      numel *= sizes[d];
    }
  }

  // Whether an input with these strides is one array in the output's order, or one number.
  bool contiguous(const std::vector<int64_t>& strides) const {
    int64_t expected = 1;
    for (size_t d = sizes.size(); d-- > 0;) {
      if (sizes[d] != 1 && strides[d] != expected) return false;
      expected *= sizes[d];
    }
    return true;
  }
  bool fixed(const std::vector<int64_t>& strides) const {
    for (size_t d = 0; d < sizes.size(); d++)
      if (sizes[d] != 1 && strides[d] != 0) return false;
    return true;
  }

  // visit(v_offset, x_offset, count, v_step, x_step) for each run of the innermost dimension in [begin, end).
  template <class Visit>
  void runs(int64_t begin, int64_t end, Visit&& visit) const {
    const size_t dim = sizes.size();
    if (dim == 0) {
      if (begin < end) visit(int64_t(0), int64_t(0), int64_t(1), int64_t(0), int64_t(0));
      return;
    }
    std::vector<int64_t> at(dim);
    int64_t rest = begin, v = 0, x = 0;
    for (size_t d = dim; d-- > 0; rest /= sizes[d]) at[d] = rest % sizes[d];
    for (size_t d = 0; d < dim; d++) v += at[d] * v_strides[d], x += at[d] * x_strides[d];
    for (int64_t i = begin; i < end;) {
      const int64_t left = sizes[dim - 1] - at[dim - 1], count = left < end - i ? left : end - i;
      visit(v, x, count, v_strides[dim - 1], x_strides[dim - 1]);
      i += count;
      // The odometer: the innermost digit moves by count, full digits carry.
      size_t d = dim - 1;
      at[d] += count, v += count * v_strides[d], x += count * x_strides[d];
      while (d > 0 && at[d] == sizes[d]) {
        v -= at[d] * v_strides[d], x -= at[d] * x_strides[d];
        at[d--] = 0;
        at[d]++, v += v_strides[d], x += x_strides[d];
      }
    }
  }
};

// out[o][i] = loop(v, x)[o] over the broadcast elements [begin, end), through blocks in the cache where an input is not
// already an array in order: no temporary of the output's size.
template <class T, class Loop>
void run_broadcast(const Broadcast& shape, Loop* loop, const T* v, const T* x, T* const* out, int outputs,
                   int64_t begin, int64_t end) {
  const bool v_fixed = shape.fixed(shape.v_strides), v_in_order = shape.contiguous(shape.v_strides);
  const bool x_in_order = shape.contiguous(shape.x_strides);
  T* at[4];
  if (x_in_order && (v_fixed || v_in_order)) {
    for (int o = 0; o < outputs; o++) at[o] = out[o] + begin;
    loop(v_fixed ? v : v + begin, v_fixed, x + begin, at, end - begin);
    return;
  }
  constexpr int64_t block = 512;
  T v_block[block], x_block[block];
  for (; begin < end; begin += block) {
    const int64_t stop = begin + block < end ? begin + block : end;
    int64_t filled = 0;
    shape.runs(begin, stop, [&](int64_t v_at, int64_t x_at, int64_t count, int64_t v_step, int64_t x_step) {
      for (int64_t i = 0; i < count; i++) {
        v_block[filled + i] = v[v_at + i * v_step];
        x_block[filled + i] = x[x_at + i * x_step];
      }
      filled += count;
    });
    for (int o = 0; o < outputs; o++) at[o] = out[o] + begin;
    loop(v_fixed ? v : v_block, v_fixed, x_block, at, stop - begin);
  }
}

}  // namespace vmf_ops
