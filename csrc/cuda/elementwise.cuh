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

// Evaluates the elements of a group, from region r on, each by a method that is right for it: that of its region if
// `exact`, else the one that covers it. upto(r): which elements' regions are at most r.
template <class F, bool exact, int r, class T, class Upto, class Prepare>
__device__ __forceinline__ void evaluate_in(Upto upto, Prepare prepare, T x, T* out) {
  constexpr int method = exact ? r : F::covering[r];
  if constexpr (r + 1 == F::regions) {
    F::template evaluate<method>(prepare(), x, out);
  } else if constexpr (!exact && F::covering[r] == F::covering[r + 1]) {
    evaluate_in<F, exact, r + 1>(upto, prepare, x, out);
  } else if constexpr (Number<T>::lanes == 1) {
    if (upto(std::integral_constant<int, r>()))
      F::template evaluate<method>(prepare(), x, out);
    else
      evaluate_in<F, exact, r + 1>(upto, prepare, x, out);
  } else {
    const auto here = upto(std::integral_constant<int, r>());
    for (int o = 0; o < F::outputs; o++) out[o] = T(0);
    if (any(here)) F::template evaluate<method>(prepare(), x, out);
    if (all(here)) return;
    T others[F::outputs];
    evaluate_in<F, exact, r + 1>(upto, prepare, x, others);
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

// The inputs of a launch. v_fixed: v points to one number, or is null and v_number is it; packed: the inputs are read 16
// bytes at a time, v only if it is not fixed.
template <class T>
struct Inputs {
  bool v_fixed, packed;
  T v_number;
  const T *v, *x;

  __device__ __forceinline__ T fixed() const { return v_fixed ? (v ? *v : v_number) : T(1); }

  // The numbers from element `first` on; behind the last element stands the element `instead`.
  __device__ __forceinline__ void read(const Layout& layout, int64_t first, int64_t instead, T fixed, Pack<T>& orders,
                                       Pack<T>& arguments) const {
    constexpr int size = Pack<T>::size;
#pragma unroll
    for (int k = 0; k < size; k++) orders.at[k] = fixed;
    if (packed && first + size <= layout.numel) {
      arguments = *reinterpret_cast<const Pack<T>*>(x + first);
      if (!v_fixed) orders = *reinterpret_cast<const Pack<T>*>(v + first);
    } else {
#pragma unroll
      for (int k = 0; k < size; k++) {
        const auto [v_at, x_at] = layout.at(first + k < layout.numel ? first + k : instead);
        arguments.at[k] = x[x_at];
        if (!v_fixed) orders.at[k] = v[v_at];
      }
    }
  }
};

template <class T>
__device__ __forceinline__ void write(int64_t numel, int64_t first, const Pack<T>& results, T* __restrict__ out) {
  constexpr int size = Pack<T>::size;
  if (first + size <= numel) {
    *reinterpret_cast<Pack<T>*>(out + first) = results;
  } else {
#pragma unroll
    for (int k = 0; k < size; k++)
      if (first + k < numel) out[first + k] = results.at[k];
  }
}

// Each thread evaluates the elements that it reads and writes.
template <class F, class T>
__global__ void __launch_bounds__(block_threads, resident_blocks<T>)
    elementwise_kernel(const __grid_constant__ Layout layout, bool v_fixed, bool packed, T v_number,
                       const T* __restrict__ v, const T* __restrict__ x, T* __restrict__ out0, T* __restrict__ out1) {
  constexpr int size = Pack<T>::size;
  const Inputs<T> inputs{v_fixed, packed, v_number, v, x};
  const T fixed = inputs.fixed();
  using G = Together<F, T>;
  const auto fixed_order = F::prepare(G(fixed));
  for_packs<size>(layout.numel, int64_t(blockIdx.x) * blockDim.x + threadIdx.x, int64_t(gridDim.x) * blockDim.x,
                  [&](int64_t first) {
                    Pack<T> orders, arguments, results[F::outputs];
                    inputs.read(layout, first, first, fixed, orders, arguments);
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
                      const G region = F::region(order, argument);
                      G result[F::outputs];
                      evaluate_in<F, false, 0>([&](int r) { return region <= G(r); }, prepare, argument, result);
#pragma unroll
                      for (int o = 0; o < F::outputs; o++)
#pragma unroll
                        for (int i = 0; i < Number<G>::lanes; i++) results[o].shift(element(result[o], i));
                    }
                    write(layout.numel, first, results[0], out0);
                    if constexpr (F::outputs > 1) write(layout.numel, first, results[1], out1);
                  });
}

// The keys by which the elements of F are sorted: their regions, or, where these are many, what covers them.
template <class F>
struct Keys {
  static constexpr bool exact = F::regions <= 4;
  static constexpr int of_region(int region) {
    int key = 0;
    for (int r = 1; r <= region; r++) key += exact || F::covering[r] != F::covering[r - 1];
    return key;
  }
  static constexpr int count = of_region(F::regions - 1) + 1;
  static constexpr int words = (count + 3) / 4;  // of counts, a byte each

  // Whether elements of this order have several methods, by their arguments.
  template <class T>
  static bool mixed(T v) {
    auto covering = [&](T x) { return F::covering[int(F::region(v, x))]; };
    return covering(T(0)) != covering(infinity<T>());
  }

  template <int r = 1, class T>
  __device__ __forceinline__ static uint32_t of(T region) {
    if constexpr (exact) {
      return uint32_t(int(region));
    } else if constexpr (r == F::regions) {
      return 0;
    } else {
      constexpr bool next = of_region(r) != of_region(r - 1);
      return of<r + 1>(region) + (next && region >= T(r));
    }
  }
};

// What a block of the kernel below sorts at a time, and the bytes of shared memory that it takes: two numbers of each
// element, with a gap after each 32, lest threads with neighbouring elements meet at a bank; and each warp's counts.
template <class F, class T>
struct Sorted {
  static constexpr uint32_t warps = block_threads / warp_threads, tile = Pack<T>::size * block_threads,
                            row = warp_threads + 1, room = tile / warp_threads * row;
  static constexpr size_t bytes = 2 * room * sizeof(T) + Keys<F>::words * warps * sizeof(uint32_t);
};

// The sum over the lanes up to this one.
__device__ __forceinline__ uint32_t sum_upto(uint32_t a, uint32_t lane) {
#pragma unroll
  for (uint32_t step = 1; step < warp_threads; step *= 2) {
    const uint32_t before = __shfl_up_sync(0xffffffff, a, step);
    if (lane >= step) a += before;
  }
  return a;
}

// A block sorts the elements that it reads by key, so that the threads of a warp go one way, and puts the results back
// in their places. The sort counts: place = elements of lower keys + elements of this key before.
template <class F, class T>
__global__ void __launch_bounds__(block_threads, resident_blocks<T>)
    sorting_kernel(const __grid_constant__ Layout layout, bool v_fixed, bool packed, T v_number,
                   const T* __restrict__ v, const T* __restrict__ x, T* __restrict__ out0, T* __restrict__ out1) {
  using K = Keys<F>;
  using S = Sorted<F, T>;
  constexpr uint32_t size = Pack<T>::size, warps = S::warps, bits = 8, all_lanes = 0xffffffff;
  // A byte holds a warp's count of a key; a lane, the count of one of a word's keys and a warp.
  static_assert(size * warp_threads < 1 << bits && 4 * warps == warp_threads && warps == bits);
  extern __shared__ __align__(16) double shared[];
  T* const staged = reinterpret_cast<T*>(shared);
  uint32_t* const totals = reinterpret_cast<uint32_t*>(staged + 2 * S::room);

  const Inputs<T> inputs{v_fixed, packed, v_number, v, x};
  const T fixed = inputs.fixed();
  const uint32_t thread = threadIdx.x, lane = thread % warp_threads, warp = thread / warp_threads;
#pragma unroll 1
  for (int64_t begin = int64_t(blockIdx.x) * S::tile; begin < layout.numel; begin += int64_t(gridDim.x) * S::tile) {
    const int64_t first = begin + thread * size;
    Pack<T> orders, arguments;
    inputs.read(layout, first, begin, fixed, orders, arguments);

    uint32_t shift[size], slot[size], end[4 * K::words], own[K::words] = {}, before[K::words], start[K::words];
    bool later[size];  // whether its key is counted in the second word
#pragma unroll
    for (int k = 0; k < size; k++) {
      const uint32_t key = K::of(F::region(orders.at[k], arguments.at[k]));
      later[k] = K::words > 1 && key >= 4;
      shift[k] = key % 4 * bits;
      if (later[k])
        own[K::words - 1] += 1u << shift[k];
      else
        own[0] += 1u << shift[k];
    }
#pragma unroll
    for (int word = 0; word < K::words; word++) {
      const uint32_t upto = sum_upto(own[word], lane);
      if (lane == warp_threads - 1) totals[word * warps + warp] = upto;
      before[word] = upto - own[word];
    }
    __syncthreads();
#pragma unroll
    for (int word = 0; word < K::words; word++) {
      const uint32_t count = totals[word * warps + lane % warps] >> lane / warps * bits & 0xff;
      const uint32_t sum = sum_upto(count, lane) + (word == 0 ? 0 : end[4 * word - 1]);
#pragma unroll
      for (int key = 0; key < 4; key++) end[4 * word + key] = __shfl_sync(all_lanes, sum, (key + 1) * warps - 1);
      start[word] = sum - count;
    }
#pragma unroll
    for (int k = 0; k < size; k++) {
      uint32_t place = __shfl_sync(all_lanes, start[0], shift[k] + warp), own_before = before[0];
      if constexpr (K::words > 1) {
        const uint32_t other = __shfl_sync(all_lanes, start[1], shift[k] + warp);
        place = later[k] ? other : place, own_before = later[k] ? before[1] : before[0];
      }
      place += own_before >> shift[k] & 0xff;
      if (later[k])
        before[K::words - 1] += 1u << shift[k];
      else
        before[0] += 1u << shift[k];
      slot[k] = place + place / warp_threads;
      staged[slot[k]] = arguments.at[k];
      staged[S::room + slot[k]] = orders.at[k];
    }
    __syncthreads();

    uint32_t place = thread;
    T* here = staged + warp * S::row + lane;
#pragma unroll 1
    for (int k = 0; k < size; k++, place += block_threads, here += warps * S::row) {
      const T argument = here[0], order = here[S::room];
      T result[F::outputs];
      evaluate_in<F, K::exact, 0>([&](auto r) { return place < end[std::integral_constant<int, K::of_region(r)>()]; },
                                  [&] { return F::prepare(order); }, argument, result);
#pragma unroll
      for (int o = 0; o < F::outputs; o++) here[o * S::room] = result[o];
    }
    __syncthreads();
    if (first < layout.numel) {
      Pack<T> results;
#pragma unroll
      for (int o = 0; o < F::outputs; o++) {
#pragma unroll
        for (int k = 0; k < size; k++) results.at[k] = staged[o * S::room + slot[k]];
        write(layout.numel, first, results, o == 0 ? out0 : out1);
      }
    }
  }
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
  const T* const orders = v_number ? nullptr : v;
  T* const second = F::outputs > 1 ? out[1] : nullptr;
  // In double precision the dual numbers of d log F/dm leave the sort no registers.
  constexpr bool room = !(is_double<T> && std::is_same_v<F, LogFOrderSlopeFunction>);
  if constexpr (F::regions > 1 && room)
    if (!v_fixed || (v_number && Keys<F>::mixed(number))) {
      constexpr size_t bytes = Sorted<F, T>::bytes;
      const int64_t most = resident<sorting_kernel<F, T>>(block_threads, bytes);
      sorting_kernel<F><<<grid(grid_blocks(packs, most)), block_threads, bytes, stream>>>(
          layout, v_fixed, packed, number, orders, x, out[0], second);
      return check(cudaGetLastError());
    }
  const int64_t most = resident<elementwise_kernel<F, T>>(block_threads, 0);
  elementwise_kernel<F><<<grid(grid_blocks(packs, most)), block_threads, 0, stream>>>(layout, v_fixed, packed, number,
                                                                                      orders, x, out[0], second);
  check(cudaGetLastError());
}

}  // namespace cuda
}  // namespace vmf_ops
