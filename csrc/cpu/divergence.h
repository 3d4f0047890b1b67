// The loop of the divergence between two laws that every ISA offers.
#pragma once

#include "../divergence.h"

namespace vmf_ops {

// Elements [begin, end) of the call.
template <class T>
using DivergenceLoop = void(const DivergenceCall<T>& call, int64_t begin, int64_t end);

struct DivergenceLoops {
  DivergenceLoop<double>* in_double;
  DivergenceLoop<float>* in_float;
};

namespace cpu_default {
DivergenceLoops divergence();
}  // namespace cpu_default
namespace cpu_avx2 {
DivergenceLoops divergence();
}  // namespace cpu_avx2
namespace cpu_avx512 {
DivergenceLoops divergence();
}  // namespace cpu_avx512

}  // namespace vmf_ops
