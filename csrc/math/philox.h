// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011), and what is made from its words.
//
// A draw is a pure function of (key, row, shell, purpose, index), so it does not depend on threads, on the size of a
// register or on the device; only the elementary functions of the last steps round differently.
//
//   philox(key, counter)        four words of 32 random bits in every lane
//   Uniforms<T>(words)          two (double) or four (float) numbers' worth of bits, read as
//     .unit(i)                  uniform on (0, 1), symmetric about 1/2 in double; on (0, 1] with fine steps at 0 in float
//     .half_turn(i)             uniform angle on [-pi/2, pi/2], independent of
//     .flip(i)                  a fair coin
//   box_muller(u, i)            two standard normals from numbers i and i+1
#pragma once

#include "elementary.h"

namespace vmf_ops {

struct Key {
  uint32_t low, high;
};

template <class W>
struct Words {
  W w0, w1, w2, w3;
};

// Of `count` counters at once, which share the rounds' keys.
template <int count, class W>
VMF_HD void philox(Key key, Words<W> (&counters)[count]) {
  VMF_UNROLL
  for (int round = 0; round < 10; round++) {
    VMF_UNROLL
    for (int i = 0; i < count; i++) {
      Words<W>& c = counters[i];
      auto a = multiply_wide(c.w0, 0xD2511F53u), b = multiply_wide(c.w2, 0xCD9E8D57u);
      c = {b.high ^ c.w1 ^ W(key.low), b.low, a.high ^ c.w3 ^ W(key.high), a.low};
    }
    key = {key.low + 0x9E3779B9u, key.high + 0xBB67AE85u};
  }
}
template <class W>
VMF_HD Words<W> philox(Key key, Words<W> counter) {
  Words<W> words[] = {counter};
  philox(key, words);
  return words[0];
}

// What a draw is for: a part of its counter, so that no two uses share bits.
enum class Purpose : uint32_t { proposal, tangent };

// The counter's words: row, shell, index within the purpose, purpose beside the high bits of the row.
template <class W>
VMF_HD Words<W> counter(W row_low, uint32_t row_high, uint32_t shell, Purpose purpose, W index) {
  return {row_low, W(shell), index, W(uint32_t(purpose) << 24 | row_high)};
}

template <class T>
struct Uniforms {
  static constexpr int count = is_double<T> ? 2 : 4;
  Word<T> words[4];

  VMF_HD explicit Uniforms(Words<Word<T>> w) : words{w.w0, w.w1, w.w2, w.w3} {}

  VMF_HD T unit(int i) const {
    if constexpr (is_double<T>) {
      auto mantissa = (join(words[2 * i], words[2 * i + 1]) >> 12) & Integer<T>(Ieee<T>::mantissa_mask);
      return (from_bits(mantissa | Integer<T>(Ieee<T>::one)) - T(1)) + T(0x1p-53);
    } else {
      return fma(to_float(signed_word(words[i] >> 1)), T(0x1p-31), T(0x1p-32));
    }
  }
  VMF_HD T half_turn(int i) const {
    if constexpr (is_double<T>)
      return (unit(i) - T(0.5)) * T(3.141592653589793);
    else
      return to_float(signed_word(words[i])) * T(1.5707963267948966 * 0x1p-31);
  }
  // +1 or -1: the lowest bit, which unit and half_turn leave unused.
  VMF_HD T flip(int i) const {
    if constexpr (is_double<T>)
      return from_bits((join(words[2 * i], words[2 * i + 1]) << 63) | Integer<T>(Ieee<T>::one));
    else
      return from_bits((signed_word(words[i]) << 31) | Integer<T>(Ieee<T>::one));
  }
};

template <class T>
struct Pair {
  T first, second;
};

template <class T>
VMF_HD Pair<T> box_muller(const Uniforms<T>& u, int i) {
  T radius = u.flip(i + 1) * root(T(-2) * log_normal(u.unit(i)));
  T angle = u.half_turn(i + 1);
  return {radius * coarse_cos(angle), radius * coarse_sin(angle)};
}

}  // namespace vmf_ops
