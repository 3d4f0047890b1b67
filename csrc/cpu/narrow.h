// csrc/math/narrow.h for registers.
#pragma once

#include "../math/narrow.h"
#include "simd.h"

namespace vmf_ops {
namespace VMF_OPS_ISA {

template <int N>
VMF_HD Simd<float, N> narrow(Simd<double, N> a) {
  return __builtin_convertvector(a.v, typename Simd<float, N>::Vector);
}
template <class T, int N>
VMF_HD Simd<double, N> widen(Simd<T, N> a) {
  return __builtin_convertvector(a.v, typename Simd<double, N>::Vector);
}

}  // namespace VMF_OPS_ISA

template <int N>
struct NarrowOf<Simd<double, N>> {
  using type = Simd<float, N>;
};

}  // namespace vmf_ops
