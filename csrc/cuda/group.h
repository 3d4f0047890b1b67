// N numbers of a CUDA thread as one number type of math/generic.h: their instructions alternate, so that one's latency
// hides behind another's, and share constants and branches.
#pragma once

#include "../math/elementary.h"

namespace vmf_ops {
namespace cuda {

template <class T, int N>
struct Group;

template <int N>
struct GroupMask {
  bool at[N];

  template <class F>
  VMF_HD static GroupMask of(F&& f) {
    GroupMask m;
    VMF_UNROLL
    for (int i = 0; i < N; i++) m.at[i] = f(i);
    return m;
  }
  VMF_HD friend GroupMask operator&(GroupMask a, GroupMask b) {
    return of([&](int i) { return a.at[i] & b.at[i]; });
  }
  VMF_HD friend GroupMask operator|(GroupMask a, GroupMask b) {
    return of([&](int i) { return a.at[i] | b.at[i]; });
  }
  VMF_HD friend GroupMask operator!(GroupMask a) {
    return of([&](int i) { return !a.at[i]; });
  }
  VMF_HD friend bool any(GroupMask a) {
    bool result = false;
    VMF_UNROLL
    for (int i = 0; i < N; i++) result |= a.at[i];
    return result;
  }
  VMF_HD friend bool all(GroupMask a) { return !any(!a); }
};

template <class T, int N>
struct Group {
  using M = GroupMask<N>;
  T at[N];

  Group() = default;
  template <class U>
  VMF_HD Group(U a) {
    VMF_UNROLL
    for (int i = 0; i < N; i++) at[i] = T(a);
  }

  template <class F>
  VMF_HD static Group of(F&& f) {
    Group a;
    VMF_UNROLL
    for (int i = 0; i < N; i++) a.at[i] = f(i);
    return a;
  }
  VMF_HD friend Group operator+(Group a, Group b) {
    return of([&](int i) { return a.at[i] + b.at[i]; });
  }
  VMF_HD friend Group operator-(Group a, Group b) {
    return of([&](int i) { return a.at[i] - b.at[i]; });
  }
  VMF_HD friend Group operator*(Group a, Group b) {
    return of([&](int i) { return a.at[i] * b.at[i]; });
  }
  VMF_HD friend Group operator/(Group a, Group b) {
    return of([&](int i) { return a.at[i] / b.at[i]; });
  }
  VMF_HD friend Group operator-(Group a) {
    return of([&](int i) { return -a.at[i]; });
  }
  VMF_HD friend Group operator&(Group a, Group b) {
    return of([&](int i) { return a.at[i] & b.at[i]; });
  }
  VMF_HD friend Group operator|(Group a, Group b) {
    return of([&](int i) { return a.at[i] | b.at[i]; });
  }
  VMF_HD friend Group operator<<(Group a, int n) {
    return of([&](int i) { return a.at[i] << n; });
  }
  VMF_HD friend Group operator>>(Group a, int n) {
    return of([&](int i) { return a.at[i] >> n; });
  }
  VMF_HD Group& operator+=(Group a) { return *this = *this + a; }
  VMF_HD Group& operator-=(Group a) { return *this = *this - a; }
  VMF_HD friend Group wrapping_sum(Group a, Group b) {
    return of([&](int i) { return vmf_ops::wrapping_sum(a.at[i], b.at[i]); });
  }
  VMF_HD friend Group abs(Group a) {
    return of([&](int i) { return vmf_ops::abs(a.at[i]); });
  }
  VMF_HD friend Group sqrt(Group a) {
    return of([&](int i) { return vmf_ops::sqrt(a.at[i]); });
  }
  VMF_HD friend Group root(Group a) {
    return of([&](int i) { return vmf_ops::root(a.at[i]); });
  }
  VMF_HD friend Group coarse_log(Group a) {
    return of([&](int i) { return vmf_ops::coarse_log(a.at[i]); });
  }
  VMF_HD friend Group min(Group a, Group b) {
    return of([&](int i) { return vmf_ops::min(a.at[i], b.at[i]); });
  }
  VMF_HD friend Group max(Group a, Group b) {
    return of([&](int i) { return vmf_ops::max(a.at[i], b.at[i]); });
  }
  VMF_HD friend Group quotient(Group a, Group b) {
    return of([&](int i) { return vmf_ops::quotient(a.at[i], b.at[i]); });
  }
  VMF_HD friend Group fma(Group a, Group b, Group c) {
    return of([&](int i) { return vmf_ops::fma(a.at[i], b.at[i], c.at[i]); });
  }
  VMF_HD friend Group select(M m, Group a, Group b) {
    return of([&](int i) { return m.at[i] ? a.at[i] : b.at[i]; });
  }
  VMF_HD friend M operator<(Group a, Group b) {
    return M::of([&](int i) { return a.at[i] < b.at[i]; });
  }
  VMF_HD friend M operator<=(Group a, Group b) {
    return M::of([&](int i) { return a.at[i] <= b.at[i]; });
  }
  VMF_HD friend M operator>(Group a, Group b) {
    return M::of([&](int i) { return a.at[i] > b.at[i]; });
  }
  VMF_HD friend M operator>=(Group a, Group b) {
    return M::of([&](int i) { return a.at[i] >= b.at[i]; });
  }
  VMF_HD friend M operator==(Group a, Group b) {
    return M::of([&](int i) { return a.at[i] == b.at[i]; });
  }
};

template <class T, int N>
VMF_HD auto bits(Group<T, N> a) {
  return Group<typename Number<T>::Integer, N>::of([&](int i) { return vmf_ops::bits(a.at[i]); });
}
template <int N>
VMF_HD Group<double, N> from_bits(Group<int64_t, N> a) {
  return Group<double, N>::of([&](int i) { return vmf_ops::from_bits(a.at[i]); });
}
template <int N>
VMF_HD Group<float, N> from_bits(Group<int32_t, N> a) {
  return Group<float, N>::of([&](int i) { return vmf_ops::from_bits(a.at[i]); });
}

}  // namespace cuda

template <class T, int N>
struct Number<cuda::Group<T, N>> {
  using Scalar = T;
  using Integer = cuda::Group<typename Number<T>::Integer, N>;
  using Mask = cuda::GroupMask<N>;
  static constexpr int lanes = N;
};

}  // namespace vmf_ops
