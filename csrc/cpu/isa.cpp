#include "isa.h"

#include <cstdlib>
#include <stdexcept>

namespace vmf_ops {
namespace {

const Isa& choose() {
  const char* wanted = std::getenv("VMF_OPS_ISA");
  const Isa* best = nullptr;
  std::string names;
  for (const Isa& one : isas()) {
    if (wanted && *wanted) {
      if (one.name == std::string(wanted)) {
        if (!one.supported)
          throw std::runtime_error("VMF_OPS_ISA=" + std::string(wanted) + ": this processor lacks it");
        return one;
      }
    } else if (one.supported) {
      best = &one;
    }
    names += std::string(names.empty() ? "" : ", ") + one.name;
  }
  if (!best) throw std::runtime_error("VMF_OPS_ISA must be one of " + names + ", not '" + wanted + "'");
  return *best;
}

}  // namespace

const std::vector<Isa>& isas() {
#ifdef VMF_OPS_X86
  static const std::vector<Isa> all = {
      {"default", true, cpu_default::special, cpu_default::second_kind, cpu_default::cosine, cpu_default::divergence,
       cpu_default::sampling},
      {"avx2",
       __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2"),
       cpu_avx2::special, cpu_avx2::second_kind, cpu_avx2::cosine, cpu_avx2::divergence, cpu_avx2::sampling},
      {"avx512",
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"),
       cpu_avx512::special, cpu_avx512::second_kind, cpu_avx512::cosine, cpu_avx512::divergence, cpu_avx512::sampling}};
#else
  static const std::vector<Isa> all = {{"default", true, cpu_default::special, cpu_default::second_kind,
                                        cpu_default::cosine, cpu_default::divergence, cpu_default::sampling}};
#endif
  return all;
}

const Isa& isa() {
  static const Isa& chosen = choose();
  return chosen;
}

}  // namespace vmf_ops
