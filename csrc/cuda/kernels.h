// The CUDA launchers as the bindings see them: pointers into the current device's memory and a stream of it, no torch,
// no CUDA header. Nothing here waits for the device; a launch that fails throws std::runtime_error.
#pragma once

#include <cstdint>

#include "../broadcast.h"
#include "../cosine_op.h"
#include "../divergence.h"
#include "../draw.h"
#include "../op.h"
#include "../second_kind_op.h"

struct CUstream_st;

namespace vmf_ops {
namespace cuda {

using Stream = CUstream_st*;

// out[o][i] = op(v, x)[o] over the broadcast elements; out: contiguous arrays of T, aligned as an allocation is. v_number:
// v is one number in the host's memory.
template <class T>
void elementwise(Op op, const Broadcast& shape, const T* v, const T* x, T* const* out, Stream stream,
                 bool v_number = false);

template <class T>
void second_kind(SecondKindOp op, const Broadcast& shape, const T* v, const T* x, T* const* out, Stream stream,
                 bool v_number);

// out[o][i] = op(m[i], kappa[i], w[i])[o] for i < numel.
template <class T>
void cosine(CosineOp op, int64_t numel, const T* m, const T* kappa, const T* w, T* const* out, Stream stream);

// m_number: call.m is one number in the host's memory.
template <class T>
void divergence(DivergenceCall<T> call, Stream stream, bool m_number);

// key (slices,): in the device's memory.
template <class T>
void sample(const Draw<T>& draw, const int64_t* key, Stream stream);

// From z_grad like z, row by row: loc_grad like z and kappa_grad (slices, rows, shells), either null if not wanted.
template <class T>
void sample_backward(const Draw<T>& draw, bool implicit, const T* z_grad, T* loc_grad, T* kappa_grad, Stream stream);

// From tangents like loc and kappa: z_tangent like z. psi (slices, rows, shells) is room to work in.
template <class T>
void sample_forward_ad(const Draw<T>& draw, bool implicit, const T* loc_tangent, const T* kappa_tangent, T* psi,
                       T* z_tangent, Stream stream);

}  // namespace cuda
}  // namespace vmf_ops
