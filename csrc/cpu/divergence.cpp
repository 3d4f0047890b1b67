// The loop of the divergence between two laws for one ISA.
#include "divergence.h"

#include "../math/divergence.h"
#include "simd.h"

namespace vmf_ops {
namespace VMF_OPS_ISA {

template <class T>
void divergence(const DivergenceCall<T>& call, int64_t begin, int64_t end) {
  using R = Register<T>;
  constexpr int lanes = Number<R>::lanes;
  for (int64_t i = begin; i < end; i += lanes) {
    T m[lanes];
    for (int64_t k = 0; k < lanes; k++) m[k] = call.m[(i + k < end ? i + k : i) % call.dimensions];
    auto load = [&](const T* p) { return R::load(p + i, end - i); };
    const auto result = vmf_divergence(R::load(m), load(call.p), load(call.q), load(call.distance), R(call.same));
    const R out[] = {result.kl, result.p_slope, result.q_slope, result.distance_slope};
    for (int o = 0; o < 4; o++) out[o].store(call.out[o] + i, end - i);
  }
}

DivergenceLoops divergence() { return {divergence<double>, divergence<float>}; }

}  // namespace VMF_OPS_ISA
}  // namespace vmf_ops
