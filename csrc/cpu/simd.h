// A register of numbers, Simd<T, N>, by the compilers' vector extensions: no intrinsics, so one text serves
// SSE2, AVX2, AVX-512 and NEON. It offers what csrc/math/generic.h asks of a number type. (But for the widening
// multiplication of 32-bit words and the fused multiply-add.)
//
// Every type here is named after the ISA it is compiled for (namespace VMF_OPS_ISA), so the linker can never merge
// the AVX-512 copy of a template into the path of a processor that lacks it.
#pragma once

#ifdef __x86_64__
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "../math/generic.h"

namespace vmf_ops {
namespace VMF_OPS_ISA {

#if defined(__AVX512F__)
inline constexpr int register_bytes = 64;
#elif defined(__AVX__)
inline constexpr int register_bytes = 32;
#else
inline constexpr int register_bytes = 16;
#endif

template <class T>
struct IntegerOf {
  using type = T;
};
template <>
struct IntegerOf<double> {
  using type = int64_t;
};
template <>
struct IntegerOf<float> {
  using type = int32_t;
};

// a b + c, in one instruction where the ISA has it. The compiler is not left to fuse what is written apart
// (-ffp-contract=off): it would do so in one function and not in another, and their values would differ.
template <class T, int N, class V>
VMF_HD V fused(V a, V b, V c) {
#ifdef __AVX512F__
  if constexpr (std::is_same_v<T, double> && N == 8) return (V)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
  if constexpr (std::is_same_v<T, float> && N == 16) return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#endif
#ifdef __FMA__
  if constexpr (std::is_same_v<T, double> && N == 4) return (V)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
  if constexpr (std::is_same_v<T, float> && N == 8) return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#endif
#ifdef __aarch64__
  if constexpr (std::is_same_v<T, double> && N == 2)
    return (V)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
  if constexpr (std::is_same_v<T, float> && N == 4) return (V)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#endif
  return a * b + c;
}

template <class T, int N>
struct Simd {
  typedef T Vector __attribute__((vector_size(N * sizeof(T))));
  typedef typename IntegerOf<T>::type I;
  typedef I Lanes __attribute__((vector_size(N * sizeof(T))));

  struct MaskType {
    Lanes m;
    VMF_HD friend MaskType operator&(MaskType a, MaskType b) { return {a.m & b.m}; }
    VMF_HD friend MaskType operator|(MaskType a, MaskType b) { return {a.m | b.m}; }
    VMF_HD friend MaskType operator!(MaskType a) { return {~a.m}; }
    VMF_HD friend bool any(MaskType a) {
      I r = 0;
      for (int i = 0; i < N; i++) r |= a.m[i];
      return r != 0;
    }
    VMF_HD friend bool all(MaskType a) { return !any(!a); }
  };

  Vector v;

  Simd() = default;
  // From a constant, written in double and rounded once to T, or from a vector. (a - 0 is a, also for a = -0.)
  template <class U>
  VMF_HD Simd(U a) {
    if constexpr (std::is_arithmetic_v<U>)
      v = T(a) - Vector{};
    else
      v = a;
  }

  VMF_HD static Simd load(const T* p) {
    Simd a;
    std::memcpy(&a.v, p, sizeof a.v);
    return a;
  }
  VMF_HD void store(T* p) const { std::memcpy(p, &v, sizeof v); }
  // The first `count` elements; the other lanes repeat the last.
  VMF_HD static Simd load(const T* p, int64_t count) {
    if (count >= N) return load(p);
    T lanes[N];
    for (int i = 0; i < N; i++) lanes[i] = p[i < count ? i : count - 1];
    return load(lanes);
  }
  VMF_HD void store(T* p, int64_t count) const {
    if (count >= N) return store(p);
    T lanes[N];
    store(lanes);
    for (int i = 0; i < count; i++) p[i] = lanes[i];
  }

  VMF_HD friend Simd operator+(Simd a, Simd b) { return a.v + b.v; }
  VMF_HD friend Simd operator-(Simd a, Simd b) { return a.v - b.v; }
  VMF_HD friend Simd operator*(Simd a, Simd b) { return a.v * b.v; }
  VMF_HD friend Simd operator/(Simd a, Simd b) { return a.v / b.v; }
  VMF_HD friend Simd operator-(Simd a) { return -a.v; }
  VMF_HD friend Simd operator&(Simd a, Simd b) { return a.v & b.v; }
  VMF_HD friend Simd operator|(Simd a, Simd b) { return a.v | b.v; }
  VMF_HD friend Simd operator^(Simd a, Simd b) { return a.v ^ b.v; }
  VMF_HD friend Simd operator<<(Simd a, int n) { return a.v << n; }
  VMF_HD friend Simd operator>>(Simd a, int n) { return a.v >> n; }
  VMF_HD Simd& operator+=(Simd a) { return *this = *this + a; }
  VMF_HD Simd& operator-=(Simd a) { return *this = *this - a; }
  VMF_HD Simd& operator*=(Simd a) { return *this = *this * a; }
  VMF_HD friend MaskType operator<(Simd a, Simd b) { return {(Lanes)(a.v < b.v)}; }
  VMF_HD friend MaskType operator<=(Simd a, Simd b) { return {(Lanes)(a.v <= b.v)}; }
  VMF_HD friend MaskType operator>(Simd a, Simd b) { return {(Lanes)(a.v > b.v)}; }
  VMF_HD friend MaskType operator>=(Simd a, Simd b) { return {(Lanes)(a.v >= b.v)}; }
  VMF_HD friend MaskType operator==(Simd a, Simd b) { return {(Lanes)(a.v == b.v)}; }
  VMF_HD friend MaskType operator!=(Simd a, Simd b) { return {(Lanes)(a.v != b.v)}; }

  VMF_HD friend Simd select(MaskType m, Simd a, Simd b) { return m.m ? a.v : b.v; }
  VMF_HD friend Simd min(Simd a, Simd b) { return a.v < b.v ? a.v : b.v; }
  VMF_HD friend Simd max(Simd a, Simd b) { return a.v > b.v ? a.v : b.v; }
  VMF_HD friend Simd sqrt(Simd a) {
    for (int i = 0; i < N; i++) a.v[i] = std::sqrt(a.v[i]);
    return a;
  }
  VMF_HD friend Simd abs(Simd a) { return (Vector)((Lanes)a.v & std::numeric_limits<I>::max()); }
  VMF_HD friend Simd fma(Simd a, Simd b, Simd c) { return fused<T, N>(a.v, b.v, c.v); }
  VMF_HD friend Simd wrapping_sum(Simd a, Simd b) {
    typedef std::make_unsigned_t<I> Words __attribute__((vector_size(N * sizeof(T))));
    return (Vector)((Words)a.v + (Words)b.v);
  }
  VMF_HD friend Simd<I, N> bits(Simd a) { return (Lanes)a.v; }
};

template <class T, int N>
VMF_HD Simd<T, N> reinterpret(Simd<typename IntegerOf<T>::type, N> a) {
  return (typename Simd<T, N>::Vector)a.v;
}
template <int N>
VMF_HD Simd<double, N> from_bits(Simd<int64_t, N> a) {
  return reinterpret<double>(a);
}
template <int N>
VMF_HD Simd<float, N> from_bits(Simd<int32_t, N> a) {
  return reinterpret<float>(a);
}
template <int N>
VMF_HD Simd<double, N> to_float(Simd<int64_t, N> a) {
  return __builtin_convertvector(a.v, typename Simd<double, N>::Vector);
}
template <int N>
VMF_HD Simd<float, N> to_float(Simd<int32_t, N> a) {
  return __builtin_convertvector(a.v, typename Simd<float, N>::Vector);
}

template <int N>
VMF_HD Simd<int32_t, N> signed_word(Simd<uint32_t, N> a) {
  return (typename Simd<int32_t, N>::Vector)a.v;
}
template <int N>
VMF_HD Simd<int64_t, N> join(Simd<uint32_t, N> high, Simd<uint32_t, N> low) {
  using Vector = typename Simd<int64_t, N>::Vector;
  return __builtin_convertvector(high.v, Vector) << 32 | __builtin_convertvector(low.v, Vector);
}

// The products of the even words, each in 64 bits.
template <int N>
VMF_HD Simd<uint64_t, N / 2> multiply_even(Simd<uint64_t, N / 2> a, Simd<uint64_t, N / 2> b) {
  using Vector = typename Simd<uint64_t, N / 2>::Vector;
#ifdef __AVX512F__
  if constexpr (N == 16) return (Vector)_mm512_maskz_mul_epu32(0xff, (__m512i)a.v, (__m512i)b.v);
#endif
#ifdef __AVX2__
  if constexpr (N == 8) return (Vector)_mm256_mul_epu32((__m256i)a.v, (__m256i)b.v);
#endif
#ifdef __SSE2__
  if constexpr (N == 4) return (Vector)_mm_mul_epu32((__m128i)a.v, (__m128i)b.v);
#endif
  return (a.v & 0xffffffffu) * (b.v & 0xffffffffu);
}
template <int N>
VMF_HD WideProduct<Simd<uint32_t, N>> multiply_wide(Simd<uint32_t, N> a, uint32_t constant) {
  using Wide = Simd<uint64_t, N / 2>;
  using Vector = typename Simd<uint32_t, N>::Vector;
  constexpr uint64_t low_half = 0xffffffffu, high_half = ~low_half;
  Wide words = (typename Wide::Vector)a.v, factor(uint64_t{constant});
  Wide even = multiply_even<N>(words, factor), odd = multiply_even<N>(words >> 32, factor);
  return {(Vector)((even.v & low_half) | (odd.v << 32)), (Vector)((even.v >> 32) | (odd.v & high_half))};
}

template <class T>
using Register = Simd<T, register_bytes / int(sizeof(T))>;

}  // namespace VMF_OPS_ISA

using namespace VMF_OPS_ISA;

template <class T, int N>
struct Number<Simd<T, N>> {
  using Scalar = T;
  using Integer = Simd<typename IntegerOf<T>::type, N>;
  using Word = Simd<uint32_t, N>;
  using Mask = typename Simd<T, N>::MaskType;
  static constexpr int lanes = N;
};

}  // namespace vmf_ops
