// The loops of the sampler, compiled once per ISA. Rows go in blocks; within a block each shell is one law, so all its
// steps run on registers whose lanes are rows, but for the tangents of long shells, whose lanes are components.
#include "sampling.h"

#include <algorithm>

#include "../math/psi.h"
#include "../math/sampling.h"
#include "simd.h"

namespace vmf_ops {
namespace VMF_OPS_ISA {
namespace {

constexpr int block_rows = 256;

// What a shell's rows of a block need, row by row.
template <class T>
struct Block {
  alignas(64) T kappa[block_rows], d[block_rows], c[block_rows], side[block_rows], psi[block_rows];
};

// Row numbers row, row+1, ... as counter words; a register never straddles 2^32, since blocks are aligned.
template <class R>
Word<R> consecutive(uint32_t first) {
  constexpr int lanes = Number<R>::lanes;
  Word<R> w;
  for (int i = 0; i < lanes; i++) w.v[i] = first + uint32_t(i);
  return w;
}

// The rows of a block, padded to whole registers by the last one, and the first one's number in the random stream.
struct Rows {
  int64_t first, number;
  int count, padded;
  uint32_t low() const { return uint32_t(number); }
  uint32_t high() const { return uint32_t(number >> 32); }
};

// Where row i of a block stands in a tensor of `period` rows that repeat; it divides only where they do.
class Repeated {
 public:
  Repeated(const Rows& rows, int64_t period) : first_(rows.first % period), period_(period), last_(rows.count - 1) {}
  int64_t operator()(int i) const {
    int64_t at = first_ + std::min(i, last_);
    return at < period_ ? at : at % period_;
  }

 private:
  int64_t first_, period_;
  int last_;
};

template <bool circle, class T>
void draw_cosines(const Rows& rows, T n, Key key, uint32_t shell, Block<T>& block) {
  using R = Register<T>;
  constexpr int lanes = Number<R>::lanes;
  alignas(64) T b[block_rows], b_complement[block_rows];
  uint32_t pending[block_rows + lanes];
  int count = 0;
  auto note = [&](const uint32_t* which, int valid, Mask<R> rejected) {
    if (!any(rejected)) return;
    typename R::I flags[lanes];
    std::memcpy(flags, &rejected.m, sizeof flags);
    for (int i = 0; i < valid; i++) {
      pending[count] = which[i];
      count += flags[i] != 0;
    }
  };
  alignas(64) uint32_t which[lanes];
  for (int i = 0; i < rows.padded; i += lanes) {
    auto e = envelope(R(n), R::load(block.kappa + i));
    e.b.store(b + i);
    e.complement.store(b_complement + i);
    auto p = propose<circle>(R(n), e, key, consecutive<R>(rows.low() + i), rows.high(), shell, Word<R>(0u));
    p.cosine.d.store(block.d + i);
    p.cosine.c.store(block.c + i);
    if constexpr (circle) p.side.store(block.side + i);
    for (int l = 0; l < lanes; l++) which[l] = i + l;
    note(which, std::min(lanes, rows.count - i), p.rejected);
  }
  for (uint32_t attempt = 1; attempt < proposal_limit && count > 0; attempt++) {
    int todo = count;
    count = 0;
    for (int i = todo; i < todo + lanes; i++) pending[i] = pending[todo - 1];
    for (int i = 0; i < todo; i += lanes) {
      int valid = std::min(lanes, todo - i);
      Envelope<R> e{R(0), R(0)};
      Word<R> row(0u);
      std::memcpy(which, pending + i, sizeof which);
      for (int l = 0; l < lanes; l++) {
        e.b.v[l] = b[which[l]];
        e.complement.v[l] = b_complement[which[l]];
        row.v[l] = rows.low() + which[l];
      }
      auto p = propose<circle>(R(n), e, key, row, rows.high(), shell, Word<R>(attempt));
      for (int l = 0; l < valid; l++) {
        block.d[which[l]] = p.cosine.d.v[l];
        block.c[which[l]] = p.cosine.c.v[l];
        if constexpr (circle) block.side[which[l]] = p.side.v[l];
      }
      note(which, valid, p.rejected);
    }
  }
}

// A register's rows of a shell, component by component: tile[j] holds component j of every lane.
template <class R, class T>
void load_tile(const T* const* rows, int m, R* tile) {
  constexpr int lanes = Number<R>::lanes;
  T* out = reinterpret_cast<T*>(tile);
  for (int l = 0; l < lanes; l++)
    for (int j = 0; j < m; j++) out[j * lanes + l] = rows[l][j];
}
template <class R, class T>
void store_tile(const R* tile, int m, T* z, int64_t stride, int valid) {
  constexpr int lanes = Number<R>::lanes;
  const T* in = reinterpret_cast<const T*>(tile);
  for (int l = 0; l < valid; l++)
    for (int j = 0; j < m; j++) z[l * stride + j] = in[j * lanes + l];
}

// z = w mu + s t from the normals in z: mu and z are m registers, a row per lane.
template <class R>
void finish_tile(int m, R d, R c, const R* mu, R* z) {
  R along = R(0);
  for (int j = 0; j < m; j++) along = fma(z[j], mu[j], along);
  R again = R(0), square = R(0);
  for (int j = 0; j < m; j++) {
    z[j] = z[j] - along * mu[j];
    again = fma(z[j], mu[j], again);
  }
  for (int j = 0; j < m; j++) {
    z[j] = z[j] - again * mu[j];
    square = fma(z[j], z[j], square);
  }
  R w = R(1) - d, s = sqrt(d * c / square);
  for (int j = 0; j < m; j++) z[j] = fma(s, z[j], w * mu[j]);
}

template <class R>
void draw_normals(int m, Key key, Word<R> row, uint32_t row_high, uint32_t shell, R* z) {
  constexpr int per_index = Uniforms<R>::count;
  for (int j = 0; j < m; j += per_index) {
    auto bits = tangent_bits<R>(key, row, row_high, shell, Word<R>(uint32_t(j / per_index)));
    for (int i = 0; i < per_index; i += 2) {
      auto [first, second] = box_muller(bits, i);
      z[j + i] = first;
      z[j + i + 1] = second;
    }
  }
}

template <class T>
void draw_short_shell(const Draw<T>& slice, const Rows& rows, int m, int offset, Key key, uint32_t shell,
                      const Block<T>& block) {
  using R = Register<T>;
  constexpr int lanes = Number<R>::lanes;
  const Repeated loc_row(rows, slice.loc_rows);
  R mu[64], z[64];
  for (int i = 0; i < rows.padded; i += lanes) {
    const T* mu_rows[lanes];
    for (int l = 0; l < lanes; l++) mu_rows[l] = slice.loc + loc_row(i + l) * slice.size + offset;
    load_tile(mu_rows, m, mu);
    R d = R::load(block.d + i), c = R::load(block.c + i);
    auto row = consecutive<R>(rows.low() + i);
    if (m == 2) {
      auto p = circle_draw<R>({mu[0], mu[1]}, {d, c}, R::load(block.side + i));
      z[0] = p.x, z[1] = p.y;
    } else {
      draw_normals<R>(m, key, row, rows.high(), shell, z);
      finish_tile(m, d, c, mu, z);
    }
    store_tile(z, m, slice.z + (rows.first + i) * slice.size + offset, slice.size, std::min(lanes, rows.count - i));
  }
}

// m = 3 in one go: the inversion and the turn come from one index.
template <class T>
void draw_sphere(const Draw<T>& slice, const Rows& rows, int offset, Key key, uint32_t shell, Block<T>& block) {
  using R = Register<T>;
  constexpr int lanes = Number<R>::lanes;
  const Repeated loc_row(rows, slice.loc_rows);
  for (int i = 0; i < rows.padded; i += lanes) {
    const T* mu_rows[lanes];
    for (int l = 0; l < lanes; l++) mu_rows[l] = slice.loc + loc_row(i + l) * slice.size + offset;
    R mu[3];
    load_tile(mu_rows, 3, mu);
    auto row = consecutive<R>(rows.low() + i);
    Uniforms<R> u(philox(key, counter(row, rows.high(), shell, Purpose::proposal, Word<R>(0u))));
    auto cosine = inverse_cosine(R::load(block.kappa + i), u.unit(0));
    cosine.d.store(block.d + i);
    cosine.c.store(block.c + i);
    auto p = sphere_draw<R>({mu[0], mu[1], mu[2]}, cosine, u.half_turn(1), u.flip(1));
    R z[3] = {p.x, p.y, p.z};
    store_tile(z, 3, slice.z + (rows.first + i) * slice.size + offset, slice.size, std::min(lanes, rows.count - i));
  }
}

// A sum in two levels, so that 1e5 terms in float32 still add to within a few eps.
template <class R>
struct Sum {
  R total = R(0), part = R(0);
  void add(R a, R b) { part = fma(a, b, part); }
  void settle() {
    total = total + part;
    part = R(0);
  }
  Scalar<R> value() const {
    constexpr int lanes = Number<R>::lanes;
    return of_lanes<lanes>((total + part).v, 0);
  }

 private:
  template <int count>
  static VMF_HD Scalar<R> of_lanes(const typename R::Vector& v, int first) {
    if constexpr (count == 1)
      return v[first];
    else
      return of_lanes<count / 2>(v, first) + of_lanes<count / 2>(v, first + count / 2);
  }
};

// The first count lanes from and to memory; compilers make masked instructions of the loops.
template <class R, class T>
R load_some(const T* p, int count) {
  constexpr int lanes = Number<R>::lanes;
  if (count == lanes) return R::load(p);
  alignas(64) T lane[lanes];
  for (int i = 0; i < lanes; i++) lane[i] = i < count ? p[i] : T(0);
  return R::load(lane);
}
template <class R, class T>
void store_some(R a, T* p, int count) {
  constexpr int lanes = Number<R>::lanes;
  if (count == lanes) return a.store(p);
  alignas(64) T lane[lanes];
  a.store(lane);
  for (int i = 0; i < lanes; i++)
    if (i < count) p[i] = lane[i];
}

// f(j, count) for the registers of m components, the last perhaps with fewer than all lanes, and settle after every 64.
template <class R, class F, class... Sums>
void for_components(int64_t m, F f, Sums&... sums) {
  constexpr int lanes = Number<R>::lanes;
  int64_t j = 0;
  for (; j + 64 <= m; j += 64) {
#pragma GCC unroll 4
    for (int i = 0; i < 64; i += lanes) f(j + i, lanes);
    (sums.settle(), ...);
  }
  for (; j < m; j += lanes) f(j, int(std::min<int64_t>(lanes, m - j)));
  (sums.settle(), ...);
}

// One row of a long shell: the normals stand in z until they have become the draw.
template <class T>
void draw_long_row(const T* mu, int64_t m, Key key, int64_t row, uint32_t shell, T d, T c, T* z) {
  using R = Register<T>;
  constexpr int lanes = Number<R>::lanes, per_index = Uniforms<R>::count, span = 16 * per_index;
  Sum<R> sum_along, sum_again, sum_square;
  for (int64_t start = 0; start < m; start += span) {
    for (int part = 0; part < 16; part += lanes) {
      auto index = consecutive<R>(uint32_t(start / per_index + part));
      auto bits = tangent_bits<R>(key, Word<R>(uint32_t(row)), uint32_t(row >> 32), shell, index);
      for (int i = 0; i < per_index; i += 2) {
        auto [first, second] = box_muller(bits, i);
        int64_t j = start + 16 * i + part;
        auto keep = [&](R normal, int64_t j) {
          if (j >= m) return;
          int count = int(std::min<int64_t>(lanes, m - j));
          sum_along.add(normal, load_some<R>(mu + j, count));
          store_some(normal, z + j, count);
        };
        keep(first, j);
        keep(second, j + 16);
      }
    }
    sum_along.settle();
  }
  R along = R(sum_along.value());
  for_components<R>(
      m,
      [&](int64_t j, int count) {
        R direction = load_some<R>(mu + j, count), t = load_some<R>(z + j, count) - along * direction;
        sum_again.add(t, direction);
        store_some(t, z + j, count);
      },
      sum_again);
  R again = R(sum_again.value());
  for_components<R>(
      m,
      [&](int64_t j, int count) {
        R t = load_some<R>(z + j, count) - again * load_some<R>(mu + j, count);
        sum_square.add(t, t);
        store_some(t, z + j, count);
      },
      sum_square);
  R w = R(1) - R(d), s = sqrt(R(d) * R(c) / R(sum_square.value()));
  for_components<R>(m, [&](int64_t j, int count) {
    store_some(fma(s, load_some<R>(z + j, count), w * load_some<R>(mu + j, count)), z + j, count);
  });
}

// Calls body(rows) for blocks of rows with consecutive numbers, aligned so that these share their high word.
template <class T, class F>
void for_blocks(const RowNumbers& numbers, int64_t begin, int64_t end, F body) {
  constexpr int lanes = Number<Register<T>>::lanes;
  while (begin < end) {
    const int64_t run = begin / numbers.run, number = numbers.first + begin + run * numbers.gap;
    const int64_t left = std::min(end - begin, numbers.run - (begin - run * numbers.run));
    const int count = int(std::min<int64_t>(left, block_rows - number % block_rows));
    body(Rows{begin, number, count, (count + lanes - 1) / lanes * lanes});
    begin += count;
  }
}

template <class T>
void load_kappa(const Draw<T>& slice, const Rows& rows, int64_t shell, T* kappa) {
  const Repeated kappa_row(rows, slice.kappa_rows);
  for (int i = 0; i < rows.padded; i++) {
    T value = slice.kappa[kappa_row(i) * slice.shells() + shell];
    kappa[i] = value >= T(0) ? value : std::numeric_limits<T>::quiet_NaN();
  }
}

template <class T>
void sample(const Draw<T>& slice, Key key, int64_t begin, int64_t end) {
  Block<T> block;
  for_blocks<T>(slice.numbers, begin, end, [&](const Rows& rows) {
    int64_t offset = 0;
    for (int64_t shell = 0; shell < slice.shells(); shell++) {
      int64_t m = slice.dims[shell];
      load_kappa(slice, rows, shell, block.kappa);
      if (m == 3) {
        draw_sphere(slice, rows, offset, key, uint32_t(shell), block);
      } else {
        if (m == 2)
          draw_cosines<true>(rows, T(1), key, uint32_t(shell), block);
        else
          draw_cosines<false>(rows, T(m - 1), key, uint32_t(shell), block);
        if (!long_shell(m))
          draw_short_shell(slice, rows, int(m), offset, key, uint32_t(shell), block);
        else
          for (int i = 0; i < rows.count; i++) {
            int64_t row = rows.first + i;
            draw_long_row(slice.loc + Repeated(rows, slice.loc_rows)(i) * slice.size + offset, m, key, rows.number + i,
                          uint32_t(shell), block.d[i], block.c[i], slice.z + row * slice.size + offset);
          }
      }
      offset += m;
      if (!slice.keep_cosine) continue;
      T* cosine = slice.cosine + shell * slice.rows + rows.first;
      std::memcpy(cosine, block.d, rows.count * sizeof(T));
      std::memcpy(cosine + slice.shells() * slice.rows, block.c, rows.count * sizeof(T));
    }
  });
}

// psi of a shell's rows, from kappa, d and c.
template <class T>
void compute_psi(int64_t m, bool implicit, int padded, Block<T>& block) {
  using R = Register<T>;
  constexpr int lanes = Number<R>::lanes;
  for (int i = 0; i < padded; i += lanes) {
    R kappa = R::load(block.kappa + i);
    Cosine<R> cosine{R::load(block.d + i), R::load(block.c + i)};
    (implicit ? implicit_psi<R>(m, kappa, cosine) : pathwise_psi<R>(R(T(m - 1)), kappa)).store(block.psi + i);
  }
}

// What the derivatives need of a shell: d and c, and psi where it is wanted.
template <class T>
void load_derivatives(const Draw<T>& slice, const Rows& rows, int64_t shell, bool psi_wanted, bool implicit,
                      Block<T>& block) {
  const T *d = slice.cosine + shell * slice.rows + rows.first, *c = d + slice.shells() * slice.rows;
  for (int i = 0; i < rows.padded; i++) {
    block.d[i] = d[std::min(i, rows.count - 1)];
    block.c[i] = c[std::min(i, rows.count - 1)];
  }
  if (!psi_wanted) return;
  const int64_t m = slice.dims[shell];
  load_kappa(slice, rows, shell, block.kappa);
  compute_psi(m, implicit || m == 3, rows.padded, block);
}

// Reverse mode of one shell. z = w mu + s t moves by psi s (s mu - w t) with kappa, s = sqrt(dc), and with mu by the
// rotation that takes mu along: grad mu = w g - (g.mu) z. The tangent is read back as s t = (z - mu) + d mu less its
// part along mu: that is the rounding of z, and would outweigh d c where d is below eps. m: a number, or a
// std::integral_constant where the compiler may unroll.
template <class T, class M>
void backward_shell(const Draw<T>& slice, const SamplingGradient<T>& gradient, const Rows& rows, M m, int64_t shell,
                    int64_t offset, const Block<T>& block) {
  using R = Register<T>;
  const bool by_registers = m >= 2 * Number<R>::lanes;
  const Repeated loc_row(rows, slice.loc_rows);
  for (int i = 0; i < rows.count; i++) {
    const int64_t row = rows.first + i, at = row * slice.size + offset;
    const T *mu = slice.loc + loc_row(i) * slice.size + offset, *z = slice.z + at, *g = gradient.z_grad + at;
    const T d = block.d[i], w = T(1) - d;
    T along = 0, across = 0, stray = 0;  // g.mu, g.(s t) and mu.(s t)
    if (by_registers) {
      Sum<R> sum_along, sum_across, sum_stray;
      for_components<R>(
          m,
          [&](int64_t j, int count) {
            R gj = load_some<R>(g + j, count), muj = load_some<R>(mu + j, count);
            sum_along.add(gj, muj);
            R tangent = fma(R(d), muj, load_some<R>(z + j, count) - muj);
            sum_across.add(gj, tangent);
            sum_stray.add(muj, tangent);
          },
          sum_along, sum_across, sum_stray);
      along = sum_along.value(), across = sum_across.value(), stray = sum_stray.value();
    } else {
      for (int64_t j = 0; j < m; j++) {
        along += g[j] * mu[j];
        const T tangent = (z[j] - mu[j]) + d * mu[j];
        across += g[j] * tangent;
        stray += mu[j] * tangent;
      }
    }
    across -= stray * along;
    if (gradient.kappa_grad)
      gradient.kappa_grad[row * slice.shells() + shell] = block.psi[i] * (d * block.c[i] * along - w * across);
    if (!gradient.loc_grad) continue;
    T* out = gradient.loc_grad + at;
    if (by_registers)
      for_components<R>(m, [&](int64_t j, int count) {
        store_some(fma(R(w), load_some<R>(g + j, count), -(R(along) * load_some<R>(z + j, count))), out + j, count);
      });
    else
      for (int64_t j = 0; j < m; j++) out[j] = w * g[j] - along * z[j];
  }
}

template <class T>
void backward(const Draw<T>& slice, const SamplingGradient<T>& gradient, int64_t begin, int64_t end) {
  Block<T> block;
  for_blocks<T>(slice.numbers, begin, end, [&](const Rows& rows) {
    int64_t offset = 0;
    for (int64_t shell = 0; shell < slice.shells(); shell++) {
      const int64_t m = slice.dims[shell];
      load_derivatives(slice, rows, shell, gradient.kappa_grad != nullptr, gradient.implicit, block);
      auto run = [&](auto m) { backward_shell(slice, gradient, rows, m, shell, offset, block); };
      switch (m) {
        case 2:
          run(std::integral_constant<int64_t, 2>());
          break;
        case 3:
          run(std::integral_constant<int64_t, 3>());
          break;
        case 4:
          run(std::integral_constant<int64_t, 4>());
          break;
        default:
          run(m);
      }
      offset += m;
    }
  });
}

// Forward mode: the tangent of z along those of loc and kappa.
template <class T>
void forward_ad(const Draw<T>& slice, const SamplingGradient<T>& gradient, int64_t begin, int64_t end) {
  Block<T> block;
  for_blocks<T>(slice.numbers, begin, end, [&](const Rows& rows) {
    const Repeated loc_row(rows, slice.loc_rows), kappa_row(rows, slice.kappa_rows);
    int64_t offset = 0;
    for (int64_t shell = 0; shell < slice.shells(); shell++) {
      const int64_t m = slice.dims[shell];
      load_derivatives(slice, rows, shell, gradient.kappa_tangent != nullptr, gradient.implicit, block);
      for (int i = 0; i < rows.count; i++) {
        const int64_t row = rows.first + i, loc_at = loc_row(i) * slice.size + offset;
        const T *mu = slice.loc + loc_at, *z = slice.z + row * slice.size + offset;
        const T* mu_tangent = gradient.loc_tangent ? gradient.loc_tangent + loc_at : nullptr;
        T* out = gradient.z_tangent + row * slice.size + offset;
        const T d = block.d[i], w = T(1) - d;
        T across = 0, stray = 0, move = 0;
        for (int64_t j = 0; j < m; j++) stray += mu[j] * ((z[j] - mu[j]) + d * mu[j]);
        if (mu_tangent)
          for (int64_t j = 0; j < m; j++) across += mu_tangent[j] * z[j];
        if (gradient.kappa_tangent) move = block.psi[i] * gradient.kappa_tangent[kappa_row(i) * slice.shells() + shell];
        const T lift = move * d * block.c[i], turn = move * w;
        for (int64_t j = 0; j < m; j++) {
          const T from_kappa = lift * mu[j] - turn * ((z[j] - mu[j]) + (d - stray) * mu[j]);
          out[j] = from_kappa + (mu_tangent ? w * mu_tangent[j] - across * mu[j] : T(0));
        }
      }
      offset += m;
    }
  });
}

}  // namespace

Sampling sampling() {
  return {{sample<double>, backward<double>, forward_ad<double>}, {sample<float>, backward<float>, forward_ad<float>}};
}

}  // namespace VMF_OPS_ISA
}  // namespace vmf_ops
