// The element-wise functions on the CPU, in torch's threads.
#pragma once

#include "../broadcast.h"
#include "../op.h"

namespace vmf_ops {

// out[o][i] = op(v, x)[o] over the broadcast elements; T is double or float.
template <class T>
void elementwise_on_cpu(const Broadcast& shape, Op op, const T* v, const T* x, T* const* out, int outputs);

}  // namespace vmf_ops
