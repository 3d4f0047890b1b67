// What the mathematics asks of a number type T, so that one text serves double, float, a CPU register and a CUDA
// thread. A scalar has it from here; a register has it from csrc/cpu/simd.h, found by argument-dependent lookup.
//
//   T(1.5)                      the same constant in every lane
//   a < b                       a Mask<T>; & | ! combine masks
//   select(mask, a, b)          a where mask, else b
//   any(mask), all(mask)        a bool
//   sqrt, abs, min, max         IEEE, lane by lane; of a NaN and a number, min and max may give either
//   quotient(a, b), root(a)     a/b and sqrt(a) to 2 ulp, which a GPU's float32 has for a fifth of the instructions;
//                               for |b| in [2^-126, 2^126], 0, infinite or NaN, and a normal, 0, infinite or NaN
//   fma(a, b, c)                fused where the processor has it
//   bits(a), from_bits(i)       the IEEE word as an Integer<T>, and back
//   wrapping_sum(i, j)          i + j modulo the size of their word
//   to_float(i)                 an Integer<T> as T
//   Word<T>                     as many unsigned 32-bit words as T has lanes, for random bits
//   multiply_wide(w, c)         the low and high words of the 64-bit products
//   join(high, low)             two words as 64-bit integers; signed_word(w) one as a 32-bit integer
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#ifdef __CUDACC__
#define VMF_HD __host__ __device__ __forceinline__
#define VMF_UNROLL _Pragma("unroll")
#else
#define VMF_HD inline __attribute__((always_inline))
#define VMF_UNROLL _Pragma("GCC unroll 80")
#endif

namespace vmf_ops {

// Shape of a number type: its scalar, the integer of its width, its mask, its lanes.
template <class T>
struct Number;

template <>
struct Number<double> {
  using Scalar = double;
  using Integer = int64_t;
  using Word = uint32_t;
  using Mask = bool;
  static constexpr int lanes = 1;
};

template <>
struct Number<float> {
  using Scalar = float;
  using Integer = int32_t;
  using Word = uint32_t;
  using Mask = bool;
  static constexpr int lanes = 1;
};

template <class T>
using Scalar = typename Number<T>::Scalar;
template <class T>
using Integer = typename Number<T>::Integer;
template <class T>
using Word = typename Number<T>::Word;
template <class T>
using Mask = typename Number<T>::Mask;
template <class T>
inline constexpr bool is_double = sizeof(Scalar<T>) == 8;

// The constant of T's precision: by_precision<T>(32.0, 14.0) is 32 in double and 14 in float arithmetic.
template <class T>
VMF_HD constexpr Scalar<T> by_precision(double in_double, double in_float) {
  return Scalar<T>(is_double<T> ? in_double : in_float);
}

template <class T>
VMF_HD T infinity() {
  return T(std::numeric_limits<Scalar<T>>::infinity());
}
template <class T>
VMF_HD T not_a_number() {
  return T(std::numeric_limits<Scalar<T>>::quiet_NaN());
}

VMF_HD bool any(bool m) { return m; }
VMF_HD bool all(bool m) { return m; }
VMF_HD double select(bool m, double a, double b) { return m ? a : b; }
VMF_HD float select(bool m, float a, float b) { return m ? a : b; }
VMF_HD double sqrt(double a) { return ::sqrt(a); }
VMF_HD float sqrt(float a) { return ::sqrtf(a); }
VMF_HD double abs(double a) { return ::fabs(a); }
VMF_HD float abs(float a) { return ::fabsf(a); }
VMF_HD double min(double a, double b) { return a < b ? a : b; }
VMF_HD double max(double a, double b) { return a > b ? a : b; }
VMF_HD float min(float a, float b) {
#ifdef __CUDA_ARCH__
  return ::fminf(a, b);
#else
  return a < b ? a : b;
#endif
}
VMF_HD float max(float a, float b) {
#ifdef __CUDA_ARCH__
  return ::fmaxf(a, b);
#else
  return a > b ? a : b;
#endif
}
template <class T>
VMF_HD T quotient(T a, T b) {
  return a / b;
}
VMF_HD float quotient(float a, float b) {
#ifdef __CUDA_ARCH__
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(b));
  return a * inverse;
#else
  return a / b;
#endif
}
template <class T>
VMF_HD T root(T a) {
  return sqrt(a);
}
VMF_HD float root(float a) {
#ifdef __CUDA_ARCH__
  float result;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(a));
  return result;
#else
  return sqrt(a);
#endif
}
#if defined(__CUDACC__) || defined(__FMA__) || defined(__aarch64__)
VMF_HD double fma(double a, double b, double c) { return ::fma(a, b, c); }
VMF_HD float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
#else
VMF_HD double fma(double a, double b, double c) { return a * b + c; }
VMF_HD float fma(float a, float b, float c) { return a * b + c; }
#endif
VMF_HD int64_t bits(double a) {
  int64_t i;
  std::memcpy(&i, &a, sizeof i);
  return i;
}
VMF_HD int32_t bits(float a) {
  int32_t i;
  std::memcpy(&i, &a, sizeof i);
  return i;
}
VMF_HD double from_bits(int64_t i) {
  double a;
  std::memcpy(&a, &i, sizeof a);
  return a;
}
VMF_HD float from_bits(int32_t i) {
  float a;
  std::memcpy(&a, &i, sizeof a);
  return a;
}
VMF_HD int64_t wrapping_sum(int64_t a, int64_t b) { return int64_t(uint64_t(a) + uint64_t(b)); }
VMF_HD int32_t wrapping_sum(int32_t a, int32_t b) { return int32_t(uint32_t(a) + uint32_t(b)); }
VMF_HD double to_float(int64_t i) { return double(i); }
VMF_HD float to_float(int32_t i) { return float(i); }

template <class W>
struct WideProduct {
  W low, high;
};
VMF_HD WideProduct<uint32_t> multiply_wide(uint32_t a, uint32_t constant) {
  uint64_t product = uint64_t(a) * constant;
  return {uint32_t(product), uint32_t(product >> 32)};
}
VMF_HD int32_t signed_word(uint32_t a) { return int32_t(a); }
VMF_HD int64_t join(uint32_t high, uint32_t low) { return int64_t(uint64_t(high) << 32 | low); }

// The constexpr array c in T's precision, for loops that stay loops: device code can index it.
template <class T, const auto& c>
struct Table {
  static constexpr int size = sizeof(c) / sizeof(c[0]);
  Scalar<T> at[size] = {};
  constexpr Table() {
    for (int i = 0; i < size; i++) at[i] = Scalar<T>(c[i]);
  }
};

// sum_{i=first}^{last} c[i] x^(i-first) by Horner, over a constexpr array; the recursion unrolls and the constants are
// evaluated by the compiler, as device code needs. With a row it reads a table c[row][i].
template <const auto& c, int first, int last, class T>
VMF_HD T polynomial(T x) {
  constexpr Scalar<T> constant = Scalar<T>(c[first]);
  if constexpr (first == last)
    return T(constant);
  else
    return fma(polynomial<c, first + 1, last>(x), x, T(constant));
}
template <const auto& c, int row, int first, int last, class T>
VMF_HD T row_polynomial(T x) {
  constexpr Scalar<T> constant = Scalar<T>(c[row][first]);
  if constexpr (first == last)
    return T(constant);
  else
    return fma(row_polynomial<c, row, first + 1, last>(x), x, T(constant));
}

}  // namespace vmf_ops
