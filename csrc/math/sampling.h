// Exact draws from the von Mises-Fisher law on the shell S_{m-1} of R^m, for every m >= 2 and kappa >= 0.
//
// A draw is z = w mu + sqrt(1-w^2) t, t uniform on the unit tangents at mu. N = m-1, S = sqrt(N^2 + 4 kappa^2).
// The angle is kept as d = 1-w and c = 1+w, neither by cancellation, so nothing is lost where kappa is 1e8 in float32.
//
//   m = 3      w by inversion (inverse_cosine): 1-w is exponential on [0, 2]
//   m = 2, 4.. Wood's (1994) envelope and test, rewritten without large constants: with b = N/(S+2 kappa) and e from
//              Beta(N/2, N/2),  d = 2be/D, c = 2(1-e)/D, D = 1-e + be;  keep it where
//              log u < N (s + log1p(-s)), s = (1-b)(1-2e)/(2D).  At least sqrt(e/(2 pi)) = 0.6577 of all are kept.
//              e = (1+Z)/2 with Z = sqrt(1 - U^(2/(N-1))) cos(2 pi V), exact without rejection (Ulrich 1984), and the
//              arcsine law at N = 1, where this is Best and Fisher's (1979) circle.
//   tangent    m = 2: the only one, with a sign; m = 3: a turn in a frame at mu (Duff et al. 2017); above: standard
//              normals less their part along mu, twice, since once leaves float32 at |t.mu| = 1e-3 where the normals
//              are nearly along mu.
// After proposal_limit attempts, which happens once in 10^29 draws, the last proposal stands: no loop without a bound.
#pragma once

#include "philox.h"

namespace vmf_ops {

inline constexpr int proposal_limit = 64;

template <class T>
struct Cosine {
  T d, c;  // 1-w, 1+w
};

// Wood's envelope: b and 1-b, for N = m-1.
template <class T>
struct Envelope {
  T b, complement;
};
template <class T>
VMF_HD Envelope<T> envelope(T n, T kappa) {
  // In quarters, S/4 and 2 kappa/4: a square overflows above reach, where S is 2 kappa to rounding, and no sum does.
  const T reach(by_precision<T>(0x1p500, 0x1p60));
  T k = T(0.5) * kappa, q = T(0.25) * n;
  T s = select(k > reach, k, root(fma(k, k, q * q))), inverse = quotient(T(1), s + k);
  return {q * inverse, k * (T(1) + quotient(k, s + q)) * inverse};
}

template <class T>
struct Proposal {
  Cosine<T> cosine;
  T side;  // +1 or -1, the tangent where m = 2
  Mask<T> rejected;
};

template <bool circle, class T>
VMF_HD Proposal<T> propose(T n, Envelope<T> e, Key key, Word<T> row, uint32_t row_high, uint32_t shell,
                           Word<T> attempt) {
  using W = Word<T>;
  T beta_radius, test, side, angle, flip;
  if constexpr (is_double<T>) {
    W index = attempt + attempt;
    Uniforms<T> first(philox(key, counter(row, row_high, shell, Purpose::proposal, index)));
    Uniforms<T> second(philox(key, counter(row, row_high, shell, Purpose::proposal, W(index + W(1u)))));
    beta_radius = first.unit(0), angle = first.half_turn(1), flip = first.flip(1);
    test = second.unit(0), side = second.flip(1);
  } else {
    Uniforms<T> u(philox(key, counter(row, row_high, shell, Purpose::proposal, attempt)));
    beta_radius = u.unit(0), angle = u.half_turn(1), flip = u.flip(1), test = u.unit(2), side = u.flip(3);
  }
  // Z^2 = q cos^2 and 1-Z^2 = (1-q) + q sin^2, q = 1 - U^(2/(N-1)).
  T cosine = cos(angle), sine = sin(angle), size, rest;
  if constexpr (circle) {
    size = cosine, rest = sine * sine;
  } else {
    T q = -expm1_normal(quotient(T(2), n - T(1)) * log_normal(beta_radius));
    size = root(q) * cosine, rest = fma(q, sine * sine, T(1) - q);
  }
  T large = T(0.5) * (T(1) + size), small = quotient(T(0.5) * rest, T(1) + size);
  auto up = flip > T(0);
  T share = select(up, large, small), other = select(up, small, large);
  T inverse = quotient(T(1), fma(e.b, share, other));
  T s = T(-0.5) * e.complement * flip * size * inverse;
  return {
      {T(2) * e.b * share * inverse, T(2) * other * inverse}, side, coarse_log(test) >= fma(n, s, scaled_log1p(n, -s))};
}

// m = 3: the inverse of the distribution function of d at q, 0 < q < 1. Behind the equator, where q (1 + e^-kappa) > 1,
// c is measured in its place, from 1-q.
template <class T>
VMF_HD Cosine<T> inverse_cosine(T kappa, T q) {
  q = min(q, T(1 - std::numeric_limits<Scalar<T>>::epsilon() / 2));
  // Where kappa is below rounding, the uniform law. Behind, kappa is no more than the logarithm of q's finest step.
  const Mask<T> uniform = kappa < T(std::numeric_limits<Scalar<T>>::epsilon() / 4);
  T least = min(kappa, T(40));
  const Mask<T> behind = fma(q, coarse_exp(-least), q) > T(1);
  T share = select(behind, T(1) - q, q), turn = T(2) * select(behind, least, -least);
  T near = quotient(log1p_normal(share * expm1_normal(turn)), select(behind, kappa, -kappa));
  near = select(uniform, T(2) * share, near);
  T far = T(2) - near;
  return {select(behind, far, near), select(behind, near, far)};
}

template <class T>
struct Circle {
  T x, y;
};
template <class T>
VMF_HD Circle<T> circle_draw(Circle<T> mu, Cosine<T> cosine, T side) {
  T w = T(1) - cosine.d, s = side * root(cosine.d * cosine.c);
  return {w * mu.x - s * mu.y, w * mu.y + s * mu.x};
}

template <class T>
struct Sphere {
  T x, y, z;
};
// The turn's angle is any on [-pi/2, pi/2], flip its sign.
template <class T>
VMF_HD Sphere<T> sphere_draw(Sphere<T> mu, Cosine<T> cosine, T angle, T flip) {
  T w = T(1) - cosine.d, s = flip * root(cosine.d * cosine.c);
  T x = s * cos(angle), y = s * sin(angle);
  T sign = select(mu.z < T(0), T(-1), T(1)), a = quotient(T(-1), T(1) + abs(mu.z)) * sign, b = mu.x * mu.y * a;
  T xx = fma(sign * mu.x * mu.x, a, T(1)), yy = fma(mu.y * mu.y, a, sign);
  return {fma(w, mu.x, fma(x, xx, y * b)), fma(w, mu.y, fma(x * sign, b, y * yy)),
          fma(w, mu.z, -(x * sign * mu.x + y * mu.y))};
}

// The bits of the tangent's normals. Short shells take component j from index j/count, number j mod count. Long ones
// take 16*count components from 16 indices, number (j mod 16 count)/16 of index j mod 16, so that a row's neighbouring
// components lie in one register whatever its width.
VMF_HD constexpr bool long_shell(int64_t m) { return m >= 64; }

template <class W>
VMF_HD Words<W> tangent_counter(W row, uint32_t row_high, uint32_t shell, W index) {
  return counter(row, row_high, shell, Purpose::tangent, index);
}
template <class T>
VMF_HD Uniforms<T> tangent_bits(Key key, Word<T> row, uint32_t row_high, uint32_t shell, Word<T> index) {
  return Uniforms<T>(philox(key, tangent_counter(row, row_high, shell, index)));
}

}  // namespace vmf_ops
