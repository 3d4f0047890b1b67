// The element-wise functions on the CPU, in torch's threads.
#pragma once

#include "../broadcast.h"
#include "kernels.h"
#include "second_kind.h"

namespace vmf_ops {

// out[o][i] = loops(v, x)[o] over the broadcast elements; T is double or float.
template <class T>
void elementwise_on_cpu(const Broadcast& shape, const Elementwise& loops, const T* v, const T* x, T* const* out,
                        int outputs);

}  // namespace vmf_ops
