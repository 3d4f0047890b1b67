// Which instruction set's loops run: chosen once, at the first call.
#pragma once

#include <string>
#include <vector>

#include "cosine.h"
#include "divergence.h"
#include "kernels.h"
#include "sampling.h"
#include "second_kind.h"

namespace vmf_ops {

struct Isa {
  const char* name;
  bool supported;  // by this processor
  Elementwise (*special)(Op);
  Elementwise (*second_kind)(SecondKindOp);
  CosineLoops (*cosine)(CosineOp);
  DivergenceLoops (*divergence)();
  Sampling (*sampling)();
};

const std::vector<Isa>& isas();

// The best supported one, or the one that the environment's VMF_OPS_ISA names; throws std::runtime_error where that is
// not one of them or this processor lacks it.
const Isa& isa();

}  // namespace vmf_ops
