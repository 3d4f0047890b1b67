// The ops of m, kappa and a cosine w, or for the quantile a probability, and what they give.
#pragma once

namespace vmf_ops {

enum class CosineOp {
  tails,     // lower, upper
  law,       // lower, upper, density, slope of lower in kappa
  quantile,  // w, its slopes in the probability and in kappa
};

}  // namespace vmf_ops
