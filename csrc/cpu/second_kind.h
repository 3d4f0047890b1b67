// The loops of the second kind that every ISA offers.
#pragma once

#include "../second_kind_op.h"
#include "kernels.h"

namespace vmf_ops {

namespace cpu_default {
Elementwise second_kind(SecondKindOp op);
}  // namespace cpu_default
namespace cpu_avx2 {
Elementwise second_kind(SecondKindOp op);
}  // namespace cpu_avx2
namespace cpu_avx512 {
Elementwise second_kind(SecondKindOp op);
}  // namespace cpu_avx512

}  // namespace vmf_ops
