// Of a number of doubles T, as many floats, for the part of a sum that needs no more: Narrow<T>, narrow(a), widen(a).
#pragma once

#include "generic.h"

namespace vmf_ops {

template <class T>
struct NarrowOf {
  using type = float;
};
template <class T>
using Narrow = typename NarrowOf<T>::type;

VMF_HD float narrow(double a) { return float(a); }
VMF_HD double widen(float a) { return a; }
VMF_HD double widen(double a) { return a; }

}  // namespace vmf_ops
