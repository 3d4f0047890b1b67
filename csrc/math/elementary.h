// Elementary functions for every number type of generic.h: about 1 ulp, no tables, no branches.
//
//   log(x)        x > 0, denormals included; log 0 = -inf, log inf = inf, x < 0 and NaN give NaN     1 ulp
//   log1p(u)      u > -1; large u is log u                                                         1.5 ulp
//   exp(x)        underflows through the denormals to 0, overflows to inf                            1 ulp
//   expm1(x)      no cancellation about 0                                                           1.5 ulp
//   sin(x), cos(x)  |x| <= pi/2 only                                                                 1 ulp
//   log_gamma1p(v)  log Gamma(1+v), 0 <= v <= 26 only; absolute error 1 eps (1 + its value)
//
// The same without the edges: log_normal(x) for normal x > 0, log1p_normal(u) for normal 1 + u > 0, exp_normal(x) and
// expm1_normal(x) for |x| <= 80. What a GPU's float32 has an instruction for, where an absolute error will do:
// coarse_log(x), of normal x > 0, 3 eps max(1, |log x|); coarse_exp(x), |x| <= 80, (3 + |x|) eps relative;
// coarse_sin(x) and coarse_cos(x), |x| <= pi/2, 6 eps; scaled_log1p(n, u), n log(1+u) for normal 1+u > 0, 2 n eps, which
// is asked for where the rounding of u is no less.
//
// log: x = 2^k m with m in [sqrt(1/2), sqrt(2)), s = (m-1)/(m+1), log m = 2 atanh s. exp: Cody and Waite (1980).
#pragma once

#include "elementary_coefficients.h"
#include "generic.h"

namespace vmf_ops {

// The layout of an IEEE number of T's scalar.
template <class T>
struct Ieee {
  using I = std::conditional_t<is_double<T>, int64_t, int32_t>;
  static constexpr int mantissa_bits = is_double<T> ? 52 : 23;
  static constexpr I mantissa_mask = (I(1) << mantissa_bits) - 1;
  static constexpr I bias = is_double<T> ? 1023 : 127;
  static constexpr I one = bias << mantissa_bits;
  static constexpr I sqrt_half = is_double<T> ? I(0x3fe6a09e667f3bcd) : I(0x3f3504f3);
  // 2^mantissa_bits: an integer or-ed into its mantissa is that integer added to it.
  static constexpr Scalar<T> unit_spacing = is_double<T> ? 0x1p52 : 0x1p23;
  static constexpr I unit_spacing_bits = is_double<T> ? I(0x4330000000000000) : I(0x4b000000);
};

namespace detail {

template <const auto& in_double, const auto& in_float, int degree, int degree_float, class T>
VMF_HD T fitted(T x) {
  if constexpr (is_double<T>)
    return polynomial<in_double, 0, degree>(x);
  else
    return polynomial<in_float, 0, degree_float>(x);
}

// 1.5 * 2^mantissa_bits: adding it rounds to an integer, which then stands in the low bits.
template <class T>
inline constexpr Scalar<T> rounder = Scalar<T>(is_double<T> ? 0x1.8p52 : 0x1.8p23);

// x = n log 2 + r, |r| <= log(2)/2; log 2 in two parts, the first with zeros enough for n times it to be exact.
template <class T>
struct ExpReduction {
  Integer<T> n;
  T r;
};
template <class T>
VMF_HD ExpReduction<T> reduce_exp(T x) {
  T shifted = fma(x, T(1.4426950408889634), T(rounder<T>));
  T n = shifted - T(rounder<T>);
  T r = fma(n, T(by_precision<T>(-0x1.62e42fee00000p-1, -0x1.62e400p-1)), x);
  r = fma(n, T(by_precision<T>(-0x1.a39ef35793c76p-33, -0x1.7f7d1cf79abcap-20)), r);
  return {bits(shifted) - bits(T(rounder<T>)), r};
}

// 2^n, a normal number.
template <class T>
VMF_HD T power_of_two(Integer<T> n) {
  return from_bits((n + Integer<T>(Ieee<T>::bias)) << Ieee<T>::mantissa_bits);
}

// a * 2^n in two steps, so that results pass through the denormals and to infinity as they should.
template <class T>
VMF_HD T scale(T a, Integer<T> n) {
  Integer<T> half = n >> 1;
  return a * power_of_two<T>(half) * power_of_two<T>(n - half);
}

}  // namespace detail

template <class T>
VMF_HD T log_normal(T x) {
  using F = Ieee<T>;
  using I = Integer<T>;
  I i = wrapping_sum(bits(x), I(typename F::I(F::one - F::sqrt_half)));  // of a NaN, beyond the largest
  T k = from_bits((i >> F::mantissa_bits) | I(F::unit_spacing_bits)) - T(F::unit_spacing + Scalar<T>(F::bias));
  T m = from_bits((i & I(F::mantissa_mask)) + I(F::sqrt_half));
  T f = m - T(1);
  T s = quotient(f, m + T(1));
  T z = s * s;
  T tail = z * detail::fitted<coefficients::log_tail, coefficients::log_tail_float, 6, 3>(z);
  // 2s = f - s f, so f - s (f - tail) keeps f exact.
  T low = fma(k, T(by_precision<T>(0x1.a39ef35793c76p-33, 0x1.7f7d1cf79abcap-20)), -(s * (f - tail)));
  return fma(k, T(by_precision<T>(0x1.62e42fee00000p-1, 0x1.62e400p-1)), f + low);
}

template <class T>
VMF_HD T log(T x) {
  constexpr double up = is_double<T> ? 0x1p54 : 0x1p25;
  auto tiny = x < T(std::numeric_limits<Scalar<T>>::min());
  T y = log_normal(select(tiny, x * T(up), x));
  y = select(tiny, y - T(is_double<T> ? 54 * 0.6931471805599453 : 25 * 0.6931471805599453), y);
  y = select(x == infinity<T>(), x, y);
  y = select(x == T(0), -infinity<T>(), y);
  return select(x >= T(0), y, not_a_number<T>());
}

// What the rounding of w = 1 + u takes from log1p(u).
template <class T>
VMF_HD T log1p_lost(T u, T w) {
  return select(abs(u) < T(1 / std::numeric_limits<Scalar<T>>::epsilon()), quotient(u - (w - T(1)), w), T(0));
}

template <class T>
VMF_HD T log1p_normal(T u) {
  T w = T(1) + u;
  return log_normal(w) + log1p_lost(u, w);
}

template <class T>
VMF_HD T log1p(T u) {
  T w = T(1) + u;
  return log(w) + select(w > T(0), log1p_lost(u, w), T(0));
}

template <class T>
VMF_HD T exp_normal(T x) {
  auto [n, r] = detail::reduce_exp(x);
  T y = T(1) + fma(r * r, detail::fitted<coefficients::exp_tail, coefficients::exp_tail_float, 10, 5>(r), r);
  return y * detail::power_of_two<T>(n);
}
template <class T>
VMF_HD T expm1_normal(T x) {
  auto [n, r] = detail::reduce_exp(x);
  T y = fma(r * r, detail::fitted<coefficients::exp_tail, coefficients::exp_tail_float, 10, 5>(r), r);
  T power = detail::power_of_two<T>(n);
  return fma(power, y, power - T(1));
}

template <class T>
VMF_HD T exp(T x) {
  T clamped = min(max(x, T(by_precision<T>(-746, -104))), T(by_precision<T>(710, 89)));
  auto [n, r] = detail::reduce_exp(clamped);
  T y = T(1) + fma(r * r, detail::fitted<coefficients::exp_tail, coefficients::exp_tail_float, 10, 5>(r), r);
  return select(x == x, detail::scale(y, n), x);
}

template <class T>
VMF_HD T expm1(T x) {
  T clamped = min(max(x, T(by_precision<T>(-746, -104))), T(by_precision<T>(709.5, 88.5)));
  auto [n, r] = detail::reduce_exp(clamped);
  T y = fma(r * r, detail::fitted<coefficients::exp_tail, coefficients::exp_tail_float, 10, 5>(r), r);
  T power = detail::scale(T(1), n);
  T z = fma(power, y, power - T(1));
  z = select(x > T(by_precision<T>(709.5, 88.5)), exp(x), z);
  return select(x == x, z, x);
}

template <class T>
VMF_HD T sin(T x) {
  T z = x * x;
  return fma(x * z, detail::fitted<coefficients::sin_tail, coefficients::sin_tail_float, 8, 4>(z), x);
}

template <class T>
VMF_HD T cos(T x) {
  T z = x * x;
  return fma(z, detail::fitted<coefficients::cos_tail, coefficients::cos_tail_float, 9, 5>(z), T(1));
}

// ---- The same, coarse where a GPU has an instruction for it ----

template <class T>
VMF_HD T coarse_log(T x) {
  return log_normal(x);
}
template <class T>
VMF_HD T coarse_exp(T x) {
  return exp_normal(x);
}
template <class T>
VMF_HD T coarse_sin(T x) {
  return sin(x);
}
template <class T>
VMF_HD T coarse_cos(T x) {
  return cos(x);
}
template <class T>
VMF_HD T scaled_log1p(T n, T u) {
  return n * log1p_normal(u);
}

#ifdef __CUDA_ARCH__
__device__ __forceinline__ float coarse_log(float x) {
  float binary;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(binary) : "f"(x));
  return 0.6931471805599453f * binary;
}
__device__ __forceinline__ float coarse_exp(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(1.4426950408889634f * x));
  return y;
}
__device__ __forceinline__ float coarse_sin(float x) {
  float y;
  asm("sin.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float coarse_cos(float x) {
  float y;
  asm("cos.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float scaled_log1p(float n, float u) {
  const float w = 1.0f + u, value = n <= 32.0f ? coarse_log(w) : log_normal(w);
  return n * (value + log1p_lost(u, w));
}
#endif

// log Gamma(1+v) for 0 <= v <= 26: Stirling's formula about v + 3/2, whose remainder is smooth on the whole range.
template <class T>
VMF_HD T log_gamma1p(T v) {
  T w = v + T(1.5);
  T tail = detail::fitted<coefficients::log_gamma_tail, coefficients::log_gamma_tail_float, 16, 7>(T(1) / w);
  return select(v == T(0), T(0), fma(v + T(0.5), log_normal(w), tail - w));
}

}  // namespace vmf_ops
