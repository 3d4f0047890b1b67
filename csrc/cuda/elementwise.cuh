// The CUDA kernel of the element-wise functions: a thread takes 16 bytes of the output at a time.
#pragma once

#include "../math/functions.h"
#include "group.h"
#include "indexing.h"
#include "kernels.h"
#include "launch.cuh"

namespace vmf_ops {
namespace cuda {

template <class T>
struct alignas(16) Pack {
  static constexpr int size = pack_size<T>;
  T at[size];
  // As a queue: the elements move, since an index known at run time would put the pack into memory.
  __device__ __forceinline__ T shift(T back) {
    T front = at[0];
#pragma unroll
    for (int k = 0; k + 1 < size; k++) at[k] = at[k + 1];
    at[size - 1] = back;
    return front;
  }
};

// The method of F that covers the elements' region, from region r on; in a group of both sides, both.
template <class F, int r, class T, class Prepare>
__device__ __forceinline__ void evaluate_in(T region, Prepare prepare, T x, T* out) {
  if constexpr (r + 1 == F::regions) {
    F::template evaluate<F::covering[r]>(prepare(), x, out);
  } else if constexpr (F::covering[r] == F::covering[r + 1]) {
    evaluate_in<F, r + 1>(region, prepare, x, out);
  } else if constexpr (Number<T>::lanes == 1) {
    if (region <= T(r))
      F::template evaluate<F::covering[r]>(prepare(), x, out);
    else
      evaluate_in<F, r + 1>(region, prepare, x, out);
  } else {
    const auto here = region <= T(r);
    for (int o = 0; o < F::outputs; o++) out[o] = T(0);
    if (any(here)) F::template evaluate<F::covering[r]>(prepare(), x, out);
    if (all(here)) return;
    T others[F::outputs];
    evaluate_in<F, r + 1>(region, prepare, x, others);
    for (int o = 0; o < F::outputs; o++) out[o] = select(here, out[o], others[o]);
  }
}

// The elements that a thread evaluates at once. A function that leaves room for several is small enough to be unrolled.
template <class F, class T>
using Together = std::conditional_t<(F::together > 1 && !is_double<T>), Group<T, F::together>, T>;
template <class T>
__device__ __forceinline__ T& element(T& a, int) {
  return a;
}
template <class T, int N>
__device__ __forceinline__ T& element(Group<T, N>& a, int i) {
  return a.at[i];
}

// v_fixed: v points to one number, or is null and v_number is it; packed: the inputs are read 16 bytes at a time, v only
// if it is not fixed.
template <class F, class T>
__global__ void __launch_bounds__(block_threads, resident_blocks<T>)
    elementwise_kernel(const __grid_constant__ Layout layout, bool v_fixed, bool packed, T v_number,
                       const T* __restrict__ v, const T* __restrict__ x, T* __restrict__ out0, T* __restrict__ out1) {
  constexpr int size = Pack<T>::size;
  T* const out[] = {out0, out1};
  const T fixed = v_fixed ? (v ? *v : v_number) : T(1);
  using G = Together<F, T>;
  const auto fixed_order = F::prepare(G(fixed));
  for_packs<size>(layout.numel, int64_t(blockIdx.x) * blockDim.x + threadIdx.x, int64_t(gridDim.x) * blockDim.x,
                  [&](int64_t first, bool full) {
                    Pack<T> orders, arguments, results[F::outputs];
#pragma unroll
                    for (int k = 0; k < size; k++) orders.at[k] = fixed;
                    if (full && packed) {
                      arguments = *reinterpret_cast<const Pack<T>*>(x + first);
                      if (!v_fixed) orders = *reinterpret_cast<const Pack<T>*>(v + first);
                    } else {
#pragma unroll
                      for (int k = 0; k < size; k++) {
                        const auto [v_at, x_at] = layout.at(first + k < layout.numel ? first + k : first);
                        arguments.at[k] = x[x_at];
                        if (!v_fixed) orders.at[k] = v[v_at];
                      }
                    }
#pragma unroll(Number<G>::lanes)
                    for (int k = 0; k < size; k += Number<G>::lanes) {
                      G argument, order;
#pragma unroll
                      for (int i = 0; i < Number<G>::lanes; i++) {
                        element(argument, i) = arguments.shift(T(0));
                        element(order, i) = orders.shift(T(0));
                      }
                      auto prepare = [&] {
                        auto prepared = fixed_order;
                        if (!v_fixed) prepared = F::prepare(order);
                        return prepared;
                      };
                      G result[F::outputs];
                      evaluate_in<F, 0>(F::region(order, argument), prepare, argument, result);
#pragma unroll
                      for (int o = 0; o < F::outputs; o++)
#pragma unroll
                        for (int i = 0; i < Number<G>::lanes; i++) results[o].shift(element(result[o], i));
                    }
#pragma unroll
                    for (int o = 0; o < F::outputs; o++) {
                      if (full) {
                        *reinterpret_cast<Pack<T>*>(out[o] + first) = results[o];
                      } else {
#pragma unroll
                        for (int k = 0; k < size; k++)
                          if (first + k < layout.numel) out[o][first + k] = results[o].at[k];
                      }
                    }
                  });
}

template <class F, class T>
void launch(const Broadcast& shape, const T* v, const T* x, T* const* out, Stream stream, bool v_number = false) {
  if (shape.numel == 0) return;
  const Layout layout(shape);
  auto aligned = [](const T* p) { return reinterpret_cast<uintptr_t>(p) % sizeof(Pack<T>) == 0; };
  const bool v_fixed = layout.v_fixed();
  const bool packed = layout.x_in_order() && aligned(x) && (v_fixed || (layout.v_in_order() && aligned(v)));
  const int64_t packs = (shape.numel + Pack<T>::size - 1) / Pack<T>::size;
  const T number = v_number ? *v : T(0);
  elementwise_kernel<F><<<grid(grid_blocks(packs, multiprocessors())), block_threads, 0, stream>>>(
      layout, v_fixed, packed, number, v_number ? nullptr : v, x, out[0], F::outputs > 1 ? out[1] : nullptr);
  check(cudaGetLastError());
}

}  // namespace cuda
}  // namespace vmf_ops
