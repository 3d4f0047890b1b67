// A call of the divergence between von Mises-Fisher laws, as the CPU's loops and the CUDA launcher take it.
#pragma once

#include <cstdint>

namespace vmf_ops {

// KL of vMF(mu_p, p) to vMF(mu_q, q), distance = |mu_p - mu_q|^2, for each of `numel` elements.
template <class T>
struct DivergenceCall {
  int64_t numel, dimensions;  // element i has m[i % dimensions]
  const T *m, *p, *q, *distance;
  T same;     // point masses no farther apart than this are one
  T* out[4];  // KL, and its derivatives in p, q and distance
};

}  // namespace vmf_ops
