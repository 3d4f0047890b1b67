// Evaluates a function of (v, x) whose method differs by region: a block's elements are sorted by region, so that
// every register holds one region and pays for one method only.
//
// What a function F offers, see csrc/math/functions.h; F::prepare(v) runs once when v is fixed.
#pragma once

#include <utility>

#include "kernels.h"
#include "simd.h"

namespace vmf_ops {
namespace VMF_OPS_ISA {

inline constexpr int64_t block_size = 512;

template <class F, int region, class T>
VMF_HD void evaluate_run(const T* v, bool v_fixed, const T* x, T* const* out, int64_t n) {
  using R = Register<T>;
  constexpr int lanes = Number<R>::lanes;
  auto run = [&](auto order_at) {
    for (int64_t i = 0; i < n; i += lanes) {
      R result[F::outputs];
      F::template evaluate<region>(order_at(i), R::load(x + i, n - i), result);
      for (int o = 0; o < F::outputs; o++) result[o].store(out[o] + i, n - i);
    }
  };
  if (v_fixed) {
    auto order = F::prepare(R(*v));
    run([&](int64_t) { return order; });
  } else {
    run([&](int64_t i) { return F::prepare(R::load(v + i, n - i)); });
  }
}

// The elements of one region, packed, evaluated and put back.
template <class F, int region, class T>
void evaluate_packed(const T* v, bool v_fixed, const T* x, T* const* out, const int32_t* index, int64_t n) {
  T packed_v[block_size], packed_x[block_size], packed_out[F::outputs][block_size], *pointers[F::outputs];
  for (int64_t i = 0; i < n; i++) packed_x[i] = x[index[i]];
  if (!v_fixed)
    for (int64_t i = 0; i < n; i++) packed_v[i] = v[index[i]];
  for (int o = 0; o < F::outputs; o++) pointers[o] = packed_out[o];
  evaluate_run<F, region>(v_fixed ? v : packed_v, v_fixed, packed_x, pointers, n);
  for (int o = 0; o < F::outputs; o++)
    for (int64_t i = 0; i < n; i++) out[o][index[i]] = packed_out[o][i];
}

// out[o][i] = F(v[i], x[i]) for i < n; v is one number where v_fixed.
template <class F, class T>
void evaluate_by_region(const T* v, bool v_fixed, const T* x, T* const* out, int64_t n) {
  using R = Register<T>;
  constexpr int lanes = Number<R>::lanes;
  for (int64_t begin = 0; begin < n; begin += block_size) {
    const int64_t count = n - begin < block_size ? n - begin : block_size;
    T region[block_size];
    for (int64_t i = 0; i < count; i += lanes) {
      R order = v_fixed ? R(*v) : R::load(v + i, count - i);
      F::region(order, R::load(x + i, count - i)).store(region + i, count - i);
    }
    int32_t index[F::regions][block_size];
    int64_t size[F::regions] = {};
    for (int64_t i = 0; i < count; i++) {
      int r = int(region[i]);
      index[r][size[r]++] = int32_t(i);
    }
    T* out_at_block[F::outputs];
    for (int o = 0; o < F::outputs; o++) out_at_block[o] = out[o] + begin;
    auto each = [&]<int... r>(std::integer_sequence<int, r...>) {
      auto one = [&]<int k>() {
        if (size[k] == count)
          evaluate_run<F, k>(v, v_fixed, x, out_at_block, count);
        else if (size[k] > 0)
          evaluate_packed<F, k>(v, v_fixed, x, out_at_block, index[k], size[k]);
      };
      (one.template operator()<r>(), ...);
    };
    each(std::make_integer_sequence<int, F::regions>());
    x += count;
    if (!v_fixed) v += count;
  }
}

// The loops of F for the dispatcher.
template <class F>
Elementwise loops() {
  return {F::outputs, evaluate_by_region<F, double>, evaluate_by_region<F, float>};
}

}  // namespace VMF_OPS_ISA
}  // namespace vmf_ops
