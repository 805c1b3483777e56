// The passes over memory that a CPU spends a step on beside its matrix products, each fused into one.
//
// Every function is told the type of its tensors (0 fp32, 1 bf16), computes in fp32 and rounds once where the
// layers of `transformers` round. Sums run in an order that depends on a row alone, never on who shares a
// batch with it or on the number of threads, so that what is sampled and what is learned from agree.

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#include <omp.h>

namespace {

using i64 = int64_t;
constexpr i64 SMALL = 1 << 16;  // values that one thread is done with before a second one has woken up

// Floats that a vector register holds, and how many such registers there are. What doesn't fit them goes through memory,
// by which attention took ten times as long and more.
#if defined(__AVX512F__)
constexpr int LANES = 16, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int LANES = 8, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int LANES = 4, REGISTERS = 32;
#else
constexpr int LANES = 4, REGISTERS = 16;
#endif
static_assert(16 % LANES == 0, "caches are padded to 16 keys");

typedef float vec __attribute__((vector_size(LANES * sizeof(float))));  // compilers keep these in registers

inline vec at(const float *x) {
  vec v;
  std::memcpy(&v, x, sizeof v);
  return v;
}
inline void put(float *x, vec v) { std::memcpy(x, &v, sizeof v); }

// sum + a * b, rounded once where the processor can. Left to themselves, compilers fuse in one loop and not in the next
// (GCC for Zen spares chains of such sums), and a row's bits would depend on how many rows are taken with it.
inline vec fused(vec a, vec b, vec sum) {
#if defined(__AVX512F__)
  return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(__FMA__)
  return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#elif defined(__aarch64__)
  return (vec)vfmaq_f32((float32x4_t)sum, (float32x4_t)a, (float32x4_t)b);
#else
  return sum + a * b;
#endif
}
inline vec fused(float a, vec b, vec sum) { return fused(a - vec{}, b, sum); }  // a - 0 is a, -0 as well

struct bf16 {
  uint16_t bits;
};

inline vec at(const bf16 *x) {
  typedef uint16_t narrow __attribute__((vector_size(LANES * 2)));
  typedef uint32_t wide __attribute__((vector_size(LANES * 4)));
  narrow v;
  std::memcpy(&v, x, sizeof v);
  return vec(__builtin_convertvector(v, wide) << 16);
}

inline float load(float x) { return x; }
inline float load(bf16 x) {
  uint32_t wide = uint32_t(x.bits) << 16;
  float f;
  std::memcpy(&f, &wide, 4);
  return f;
}
inline void store(float *to, float x) { *to = x; }
inline void store(bf16 *to, float x) {
  uint32_t wide;
  std::memcpy(&wide, &x, 4);
  uint32_t rounded = (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;  // to nearest, ties to even
  to->bits = x != x ? 0x7fc0 : uint16_t(rounded);
}
template <class T> inline float rounded(float x) {
  T t;
  store(&t, x);
  return load(t);
}

// The first n of LANES values, zeros behind them: what lies further may not be there to be read.
template <class T> inline vec first_of(const T *x, i64 n) {
  if (n >= LANES) return at(x);
  float wide[LANES] = {};
  for (i64 i = 0; i < n; i++) wide[i] = load(x[i]);
  return at(wide);
}

// exp to within 2 ulp, in a form that compilers turn into vector code; NaN stays NaN, below -87.3 it is 0.
inline float exp_(float x) {
  float c = x < -87.3f ? -87.3f : (x > 88.7f ? 88.7f : x);
  float n = std::nearbyint(c * 1.44269504f);
  float r = c - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  int32_t e = (int32_t(n) + 127) << 23;
  float s;
  std::memcpy(&s, &e, 4);
  float y = x < -87.3f ? 0.0f : p * s;
  return x != x ? x : y;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exp_(-x)); }

// A sum over a row in LANES partial sums: one order, whatever the compiler does.
struct Sum {
  float lane[LANES] = {};
  inline float total() const {
    float s[LANES];
    std::memcpy(s, lane, sizeof s);
    for (int half = LANES / 2; half; half /= 2)
      for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
  }
};

// ---- RMS norm, with the residual stream's addition before it ---------------------------------------------

template <class T> inline void scaled(const T *x, const T *w, float r, T *y, i64 d) {
  for (i64 j = 0; j < d; j++) store(y + j, load(w[j]) * rounded<T>(load(x[j]) * r));
}

// sum = x + delta (delta may be null: sum = x and is not written); y = w * round(sum * rstd).
template <class T>
void norm_forward(const T *x, const T *delta, const T *w, T *sum, T *y, float *rstd, i64 rows, i64 d, float eps) {
#pragma omp parallel for schedule(static) if (rows * d > SMALL)
  for (i64 i = 0; i < rows; i++) {
    const T *a = x + i * d;
    if (delta) {
      const T *b = delta + i * d;
      T *s = sum + i * d;
      for (i64 j = 0; j < d; j++) store(s + j, load(a[j]) + load(b[j]));
      a = s;
    }
    Sum squares;
    i64 j = 0;
    for (; j + LANES <= d; j += LANES)
      for (int l = 0; l < LANES; l++) squares.lane[l] += load(a[j + l]) * load(a[j + l]);
    for (; j < d; j++) squares.lane[j % LANES] += load(a[j]) * load(a[j]);
    float r = 1.0f / std::sqrt(squares.total() / float(d) + eps);
    if (rstd) rstd[i] = r;
    scaled(a, w, r, y + i * d, d);
  }
}

template <class T> void norm_again(const T *x, const float *rstd, const T *w, T *y, i64 rows, i64 d) {
#pragma omp parallel for schedule(static) if (rows * d > SMALL)
  for (i64 i = 0; i < rows; i++) scaled(x + i * d, w, rstd[i], y + i * d, d);
}

// dx (+ dsum, the gradient that reaches the residual stream from behind) and, per thread, dw.
template <class T>
void norm_backward(const T *x, const T *w, const float *rstd, const T *dy, const T *dsum, T *dx, float *dw, i64 rows,
                   i64 d) {
  // a fixed number of slices, so that the sum doesn't know how many threads there are
  constexpr int SLICES = 8;
  std::vector<float> part(size_t(SLICES * d), 0.0f);
#pragma omp parallel for schedule(static)
  for (int slice = 0; slice < SLICES; slice++) {
    float *own = part.data() + slice * d;
    for (i64 i = rows * slice / SLICES; i < rows * (slice + 1) / SLICES; i++) {
      const T *a = x + i * d, *g = dy + i * d;
      float r = rstd[i];
      Sum dot;
      i64 j = 0;
      for (; j + LANES <= d; j += LANES)
        for (int l = 0; l < LANES; l++) dot.lane[l] += load(g[j + l]) * load(w[j + l]) * load(a[j + l]);
      for (; j < d; j++) dot.lane[j % LANES] += load(g[j]) * load(w[j]) * load(a[j]);
      float shift = dot.total() * r * r / float(d);
      T *out = dx + i * d;
      const T *more = dsum ? dsum + i * d : nullptr;
      for (j = 0; j < d; j++) own[j] += load(g[j]) * rounded<T>(load(a[j]) * r);
      if (more)
        for (j = 0; j < d; j++) store(out + j, r * (load(g[j]) * load(w[j]) - load(a[j]) * shift) + load(more[j]));
      else
        for (j = 0; j < d; j++) store(out + j, r * (load(g[j]) * load(w[j]) - load(a[j]) * shift));
    }
  }
  for (i64 j = 0; j < d; j++) {
    float s = 0;
    for (int slice = 0; slice < SLICES; slice++) s += part[size_t(slice * d + j)];
    dw[j] = s;
  }
}

// ---- rotary positions: x [rows, heads, size] at a row stride to y at its own, or in place; cos, sin [rows, size] -----

template <class T>
void rotate(const T *x, i64 stride, T *y, i64 to, const T *cos, const T *sin, i64 rows, i64 heads, i64 size,
            float sign) {
  i64 half = size / 2;
#pragma omp parallel for schedule(static) if (rows * heads * size > SMALL)
  for (i64 i = 0; i < rows; i++) {
    const T *c = cos + i * size, *s = sin + i * size;
    if (x != y) std::memcpy(y + i * to, x + i * stride, size_t(heads * size) * sizeof(T));
    for (i64 h = 0; h < heads; h++) {
      T *v = y + i * to + h * size;
#pragma GCC ivdep  // its halves and the angles lie apart, which compilers would test at every head
      for (i64 j = 0; j < half; j++) {
        float a = load(v[j]), b = load(v[j + half]);
        store(v + j, a * load(c[j]) - sign * b * load(s[j]));
        store(v + j + half, b * load(c[j + half]) + sign * a * load(s[j + half]));
      }
    }
  }
}

// ---- a gradient onto its sum ----------------------------------------------------------------------------------

template <class T> void add_up(const T *x, float *sum, i64 n) {
#pragma omp parallel for schedule(static) if (n > SMALL)
  for (i64 block = 0; block < (n + 4095) / 4096; block++)
    for (i64 j = block * 4096; j < (block + 1) * 4096 && j < n; j++) sum[j] += load(x[j]);
}

// ---- SiLU(gate) * up: both at a row stride ------------------------------------------------------------------

template <class T>
void gated_forward(const T *gate, const T *up, i64 stride, T *y, i64 rows, i64 d) {
#pragma omp parallel for schedule(static) if (rows * d > SMALL / 2)
  for (i64 i = 0; i < rows; i++) {
    const T *g = gate + i * stride, *u = up + i * stride;
    T *out = y + i * d;
    for (i64 j = 0; j < d; j++) {
      float x = load(g[j]);
      store(out + j, rounded<T>(x * sigmoid(x)) * load(u[j]));
    }
  }
}

// y is what the forward pass gave, made again.
template <class T>
void gated_backward(const T *gate, const T *up, const T *dy, T *y, T *dgate, T *dup, i64 n) {
#pragma omp parallel for schedule(static)
  for (i64 block = 0; block < (n + 1023) / 1024; block++) {
    i64 end = (block + 1) * 1024 < n ? (block + 1) * 1024 : n;
#pragma GCC ivdep  // six arrays are too many for compilers to test whether any overlap: none do
    for (i64 j = block * 1024; j < end; j++) {
      float x = load(gate[j]), s = sigmoid(x), d = load(dy[j]), u = load(up[j]);
      store(y + j, rounded<T>(x * s) * u);
      store(dup + j, d * (x * s));
      store(dgate + j, d * u * (s + x * s * (1.0f - s)));
    }
  }
}

// ---- attention ------------------------------------------------------------------------------------------------
//
// A family is a prefix that members share, and each member's own positions behind it. Its keys stand in rows of a
// tensor: `Span` says where. Members attend to the whole prefix and, causally, to themselves.

struct Span {
  i64 key, value;          // addresses of row 0, head 0
  i64 row, head;           // strides, in elements
};

// Turn a square of LANES rows, swapping ever smaller squares off its diagonal.
template <int S> constexpr int first(int lane) { return lane & S ? LANES + lane - S : lane; }
template <int S> constexpr int second(int lane) { return lane & S ? LANES + lane : lane + S; }
template <int S, int... LANE> inline void swap_squares(vec *x, std::integer_sequence<int, LANE...>) {
  for (int i = 0; i < LANES; i++)
    if (!(i & S)) {
      vec a = x[i], b = x[i + S];
      x[i] = __builtin_shufflevector(a, b, first<S>(LANE)...);
      x[i + S] = __builtin_shufflevector(a, b, second<S>(LANE)...);
    }
}
template <int S = LANES / 2> inline void turned_square(vec *x) {
  swap_squares<S>(x, std::make_integer_sequence<int, LANES>());
  if constexpr (S > 1) turned_square<S / 2>(x);
}

inline i64 padded(i64 n) { return (n + LANES - 1) / LANES * LANES; }

// One head's rows in fp32, and the same transposed: [capacity][size] and [size][capacity]. Both are multiples of
// LANES; what isn't used is 0.
struct Rows {
  std::vector<float> flat, turned;
  i64 capacity = 0, size = 0;
  void reserve(i64 n, i64 d) {
    if (n <= capacity && d == size) return;
    capacity = n, size = d;
    flat.assign(size_t(n * d), 0.0f);
    turned.assign(size_t(n * d), 0.0f);
  }
  // `count` rows of `length` values to the places from `place` on
  template <class T> void take(const T *from, i64 row, i64 length, i64 place, i64 count, bool turn, bool keep) {
    vec block[LANES];
    for (i64 i = 0; i < count; i += LANES)
      for (i64 j = 0; j < size; j += LANES) {
        int n = int(count - i < LANES ? count - i : LANES), m = int(length - j < LANES ? length - j : LANES);
        for (int a = 0; a < n; a++) {
          const T *x = from + (i + a) * row + j;
          block[a] = m == LANES ? at(x) : first_of(x, m);
          if (keep) put(flat.data() + (place + i + a) * size + j, block[a]);
        }
        if (!turn) continue;
        turned_square(block);
        for (int b = 0; b < LANES; b++) {
          float *to = turned.data() + (j + b) * capacity + place + i;
          if (n == LANES)
            put(to, block[b]);
          else
            for (int a = 0; a < n; a++) to[a] = block[b][a];
        }
      }
  }
};

// scores[r][key] of `keys` keys (a multiple of LANES): the products of q [R][padded size] with the columns of
// `turned` [size][row].
template <int R, class T>
void score(const float *q, const T *turned, i64 row, i64 size, i64 keys, float *scores, i64 width) {
  i64 wide = padded(size), k = 0;
  for (; k + 2 * LANES <= keys; k += 2 * LANES) {  // two at a time: sums wait for their last addition
    vec low[R] = {}, high[R] = {};
    const T *column = turned + k;
    for (i64 j = 0; j < size; j++, column += row) {
      vec a = at(column), b = at(column + LANES);
      for (int r = 0; r < R; r++)
        low[r] = fused(q[r * wide + j], a, low[r]), high[r] = fused(q[r * wide + j], b, high[r]);
    }
    for (int r = 0; r < R; r++) put(scores + r * width + k, low[r]), put(scores + r * width + k + LANES, high[r]);
  }
  if (k == keys) return;
  vec acc[R] = {};
  const T *column = turned + k;
  for (i64 j = 0; j < size; j++, column += row) {
    vec x = at(column);
    for (int r = 0; r < R; r++) acc[r] = fused(q[r * wide + j], x, acc[r]);
  }
  for (int r = 0; r < R; r++) put(scores + r * width + k, acc[r]);
}

// out[r] += the sum of weights[r][key] * flat[key], keys in order; flat [key][size], out [R][padded size]
template <int R, class T>
void gather(const float *weights, i64 width, const T *flat, i64 size, i64 from, i64 to, float *out) {
  i64 wide = padded(size), j = 0;
  for (; j + 2 * LANES <= size; j += 2 * LANES) {
    vec low[R], high[R];
    for (int r = 0; r < R; r++) low[r] = at(out + r * wide + j), high[r] = at(out + r * wide + j + LANES);
    const T *x = flat + from * size + j;
    for (i64 k = from; k < to; k++, x += size) {
      vec a = at(x), b = at(x + LANES);
      for (int r = 0; r < R; r++) {
        low[r] = fused(weights[r * width + k], a, low[r]);
        high[r] = fused(weights[r * width + k], b, high[r]);
      }
    }
    for (int r = 0; r < R; r++) put(out + r * wide + j, low[r]), put(out + r * wide + j + LANES, high[r]);
  }
  for (; j < size; j += LANES) {
    vec acc[R];
    for (int r = 0; r < R; r++) acc[r] = at(out + r * wide + j);
    const T *x = flat + from * size + j;
    for (i64 k = from; k < to; k++, x += size) {
      vec a = j + LANES <= size ? at(x) : first_of(x, size - j);
      for (int r = 0; r < R; r++) acc[r] = fused(weights[r * width + k], a, acc[r]);
    }
    for (int r = 0; r < R; r++) put(out + r * wide + j, acc[r]);
  }
}

// sums[key] += the sum over r of weights[r][key] * x[r], for K keys and V registers of each
template <int R, int K, int V>
inline void spread_few(const float *weights, i64 width, const float *x, i64 wide, float *sums) {
  vec acc[K][V];
  for (int k = 0; k < K; k++)
    for (int v = 0; v < V; v++) acc[k][v] = at(sums + k * wide + v * LANES);
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) {
      vec row = at(x + r * wide + v * LANES);
      for (int k = 0; k < K; k++) acc[k][v] = fused(weights[r * width + k], row, acc[k][v]);
    }
  for (int k = 0; k < K; k++)
    for (int v = 0; v < V; v++) put(sums + k * wide + v * LANES, acc[k][v]);
}
template <int R> void spread(const float *weights, i64 width, const float *x, i64 wide, i64 from, i64 to, float *sums) {
  i64 j = 0;
  for (; j + 2 * LANES <= wide; j += 2 * LANES) {
    i64 k = from;
    for (; k + 2 <= to; k += 2) spread_few<R, 2, 2>(weights + k, width, x + j, wide, sums + k * wide + j);
    if (k < to) spread_few<R, 1, 2>(weights + k, width, x + j, wide, sums + k * wide + j);
  }
  if (j < wide)
    for (i64 k = from; k < to; k++) spread_few<R, 1, 1>(weights + k, width, x + j, wide, sums + k * wide + j);
}

// Rows that are taken at a time: twice as many sums, two registers of what they are multiplied with, and a weight.
constexpr i64 ABREAST = REGISTERS == 32 ? 8 : 6;

#define BY_ROWS(R, CALL)                                                                                               \
  switch ((R) < ABREAST ? (R) : ABREAST) {                                                                             \
  case 1: { constexpr int N = 1; CALL; } break;                                                                        \
  case 2: { constexpr int N = 2; CALL; } break;                                                                        \
  case 3: { constexpr int N = 3; CALL; } break;                                                                        \
  case 4: { constexpr int N = 4; CALL; } break;                                                                        \
  case 5: { constexpr int N = 5; CALL; } break;                                                                        \
  case 6: { constexpr int N = 6; CALL; } break;                                                                        \
  case 7: { constexpr int N = 7; CALL; } break;                                                                        \
  default: { constexpr int N = 8; CALL; } break;                                                                       \
  }

// Which keys a query sees: [from, to). A key's place is its position in the sequence, so that a row's sums have one
// order however the sequence was cut into what is shared and what is its own.
struct Sight {
  i64 from, to;
};

inline Sight sight(i64 at, i64 window) {  // window 0: everything up to itself
  return {window && at + 1 > window ? at + 1 - window : 0, at + 1};
}

// Softmax in place over one row of scores, zero where nothing is seen; returns log(sum) + max.
inline float soften(float *s, const Sight &see, i64 width) {
  for (i64 k = 0; k < see.from; k++) s[k] = -INFINITY;
  for (i64 k = see.to; k < width; k++) s[k] = -INFINITY;
  float top[LANES];
  for (int l = 0; l < LANES; l++) top[l] = -INFINITY;
  for (i64 k = 0; k < width; k += LANES)
    for (int l = 0; l < LANES; l++) top[l] = s[k + l] > top[l] ? s[k + l] : top[l];
  float max = top[0];
  for (int l = 1; l < LANES; l++) max = top[l] > max ? top[l] : max;
  Sum sum;
  for (i64 k = 0; k < width; k += LANES)
    for (int l = 0; l < LANES; l++) {
      s[k + l] = exp_(s[k + l] - max);
      sum.lane[l] += s[k + l];
    }
  float total = sum.total(), scale = 1.0f / total;
  for (i64 k = 0; k < width; k++) s[k] *= scale;
  return max + std::log(total);
}

// One row's scores become weights, and its dp [width], the products of dout and values, their gradient; both are 0
// where nothing is seen.
inline void slopes(float *s, float *dp, const Sight &see, i64 width, float lse, const float *dout, const float *out,
                   i64 wide) {
  Sum dot;
  for (i64 j = 0; j < wide; j += LANES)
    for (int l = 0; l < LANES; l++) dot.lane[l] += dout[j + l] * out[j + l];
  float delta = dot.total();
  for (i64 k = 0; k < see.from; k++) s[k] = -INFINITY;
  for (i64 k = see.to; k < width; k++) s[k] = -INFINITY;
  for (i64 k = 0; k < width; k++) {
    s[k] = exp_(s[k] - lse);
    dp[k] = s[k] * (dp[k] - delta);
  }
}

struct Room {  // what a thread works in
  Rows keys, values;
  std::vector<float> q, out, scores, dout, dp, dk, dv, dq;
  template <class T> void take(const Span &s, i64 head, i64 size, i64 from, i64 place, i64 count, bool back) {
    const T *k = reinterpret_cast<const T *>(s.key) + head * s.head + from * s.row;
    const T *v = reinterpret_cast<const T *>(s.value) + head * s.head + from * s.row;
    keys.take(k, s.row, size, place, count, true, back);
    values.take(v, s.row, size, place, count, back, true);
  }
  void reserve(i64 n, i64 size) {
    keys.reserve(n, size);
    values.reserve(n, size);
  }
};

// Rows [repeat][padded size] of one token's heads, times scale; what is behind their size stays as it was.
template <class T> void widen(const T *from, i64 repeat, i64 size, float scale, float *to) {
  i64 wide = padded(size);
  for (i64 r = 0; r < repeat; r++)
    for (i64 j = 0; j < size; j++) to[r * wide + j] = load(from[r * size + j]) * scale;
}

template <class T> void narrow(const float *from, i64 repeat, i64 size, float scale, T *to) {
  i64 wide = padded(size);
  for (i64 r = 0; r < repeat; r++)
    for (i64 j = 0; j < size; j++) store(to + r * size + j, from[r * wide + j] * scale);
}

// Queries of neighbouring tokens that are taken at a time, so that a key is read once for all of them.
inline i64 together(i64 repeat) { return repeat < ABREAST ? ABREAST / repeat : 1; }

// One member's queries: rows [0, count) of q at own positions from 0 on.
template <class T>
void attend_member(Room &room, const T *q, i64 q_row, T *out, i64 out_row, float *lse, i64 lse_row, i64 count,
                   i64 prefix, i64 repeat, i64 size, float scale, i64 window) {
  i64 wide = padded(size), few = together(repeat);
  for (i64 t = 0; t < count; t += few) {
    i64 tokens = count - t < few ? count - t : few, rows = tokens * repeat;
    i64 from = sight(prefix + t, window).from, to = prefix + t + tokens, width = padded(to);
    room.q.assign(size_t(rows * wide), 0.0f), room.out.assign(size_t(rows * wide), 0.0f);
    room.scores.resize(size_t(rows * width));
    for (i64 i = 0; i < tokens; i++)
      widen(q + (t + i) * q_row, repeat, size, scale, room.q.data() + i * repeat * wide);
    for (i64 r = 0; r < rows; r += ABREAST) {
      const float *queries = room.q.data() + r * wide;
      float *s = room.scores.data() + r * width;
      BY_ROWS(rows - r, (score<N>(queries, room.keys.turned.data(), room.keys.capacity, wide, width, s, width)));
      for (i64 i = r; i < rows && i < r + ABREAST; i++) {
        float l = soften(room.scores.data() + i * width, sight(prefix + t + i / repeat, window), width);
        lse[(t + i / repeat) * lse_row + i % repeat] = l;
      }
      BY_ROWS(rows - r, (gather<N>(s, width, room.values.flat.data(), wide, from, to, room.out.data() + r * wide)));
    }
    for (i64 i = 0; i < tokens; i++)
      narrow(room.out.data() + i * repeat * wide, repeat, size, 1.0f, out + (t + i) * out_row);
  }
}

// Gradients of one member's queries; those of keys and values are added to room.dk and room.dv.
template <class T>
void attend_member_backward(Room &room, const T *q, const T *out, const T *dout, T *dq, i64 row, const float *lse,
                            i64 lse_row, i64 count, i64 prefix, i64 repeat, i64 size, float scale, i64 window) {
  i64 wide = padded(size), few = together(repeat);
  for (i64 t = 0; t < count; t += few) {
    i64 tokens = count - t < few ? count - t : few, rows = tokens * repeat;
    i64 from = sight(prefix + t, window).from, to = prefix + t + tokens, width = padded(to);
    for (auto *x : {&room.q, &room.out, &room.dout, &room.dq}) x->assign(size_t(rows * wide), 0.0f);
    room.scores.resize(size_t(rows * width)), room.dp.resize(size_t(rows * width));
    for (i64 i = 0; i < tokens; i++) {
      i64 place = i * repeat * wide, token = (t + i) * row;
      widen(q + token, repeat, size, scale, room.q.data() + place);
      widen(out + token, repeat, size, 1.0f, room.out.data() + place);
      widen(dout + token, repeat, size, 1.0f, room.dout.data() + place);
    }
    for (i64 r = 0; r < rows; r += ABREAST) {
      const float *queries = room.q.data() + r * wide, *douts = room.dout.data() + r * wide;
      float *s = room.scores.data() + r * width, *d = room.dp.data() + r * width;
      BY_ROWS(rows - r, (score<N>(queries, room.keys.turned.data(), room.keys.capacity, wide, width, s, width)));
      BY_ROWS(rows - r, (score<N>(douts, room.values.turned.data(), room.values.capacity, wide, width, d, width)));
      for (i64 i = r; i < rows && i < r + ABREAST; i++) {
        i64 token = t + i / repeat;
        slopes(room.scores.data() + i * width, room.dp.data() + i * width, sight(prefix + token, window), width,
               lse[token * lse_row + i % repeat], room.dout.data() + i * wide, room.out.data() + i * wide, wide);
      }
      BY_ROWS(rows - r, (gather<N>(d, width, room.keys.flat.data(), wide, from, to, room.dq.data() + r * wide)));
      BY_ROWS(rows - r, (spread<N>(d, width, queries, wide, from, to, room.dk.data())));
      BY_ROWS(rows - r, (spread<N>(s, width, douts, wide, from, to, room.dv.data())));
    }
    for (i64 i = 0; i < tokens; i++)
      narrow(room.dq.data() + i * repeat * wide, repeat, size, scale, dq + (t + i) * row);
  }
}

struct Piece {
  i64 family, from, to;
};

// Families cut into pieces of work of at most so many members.
std::vector<Piece> pieces(const i64 *members_of, i64 families, i64 most) {
  std::vector<Piece> all;
  for (i64 f = 0; f < families; f++)
    for (i64 m = members_of[f]; m < members_of[f + 1]; m += most)
      all.push_back({f, m, m + most < members_of[f + 1] ? m + most : members_of[f + 1]});
  return all;
}

// Packed rows q [T, H, D], k and v [T, K, D]. A family's prefix is up to two stretches of rows (the stem, a prompt);
// a member is one stretch. prefixes [families][4]: begin, length, begin, length; members [..][2]: begin, length.
template <class T>
void tree_forward(const T *q, const T *k, const T *v, T *out, float *lse, const i64 *prefixes, const i64 *members_of,
                  const i64 *members, i64 families, i64 heads, i64 kv, i64 size, float scale, i64 window) {
  auto work = pieces(members_of, families, 16);
  i64 repeat = heads / kv;
#pragma omp parallel
  {
    Room room;
#pragma omp for schedule(dynamic)
    for (i64 unit = 0; unit < i64(work.size()) * kv; unit++) {
      Piece p = work[size_t(unit / kv)];
      i64 head = unit % kv;
      const i64 *f = prefixes + p.family * 4;
      i64 prefix = f[1] + f[3], longest = 0;
      for (i64 m = p.from; m < p.to; m++) longest = members[2 * m + 1] > longest ? members[2 * m + 1] : longest;
      room.reserve(padded(prefix + longest) + LANES, padded(size));
      Span all{i64(k), i64(v), kv * size, size};
      room.take<T>(all, head, size, f[0], 0, f[1], false);
      room.take<T>(all, head, size, f[2], f[1], f[3], false);
      for (i64 m = p.from; m < p.to; m++) {
        i64 begin = members[2 * m], count = members[2 * m + 1];
        room.take<T>(all, head, size, begin, prefix, count, false);
        i64 at = head * repeat;
        attend_member<T>(room, q + (begin * heads + at) * size, heads * size, out + (begin * heads + at) * size,
                         heads * size, lse + begin * heads + at, heads, count, prefix, repeat, size, scale, window);
      }
    }
  }
}

// Gradients of tree_forward. dk, dv are fp32 [T, K, D], zero at first. A head of a few of a family's members is one
// piece of work; what pieces add to rows they share (a stem, a prompt) is summed in their order.
template <class T>
void tree_backward(const T *q, const T *k, const T *v, const T *out, const float *lse, const T *dout, T *dq, float *dk,
                   float *dv, const i64 *prefixes, const i64 *members_of, const i64 *members, i64 families, i64 heads,
                   i64 kv, i64 size, float scale, i64 window) {
  auto work = pieces(members_of, families, 4);
  i64 repeat = heads / kv, wide = padded(size), row = heads * size;
  std::vector<std::vector<float>> kept(work.size() * size_t(kv));  // what each adds to its prefix
#pragma omp parallel
  {
    Room room;
#pragma omp for schedule(dynamic)
    for (i64 unit = 0; unit < i64(work.size()) * kv; unit++) {
      Piece p = work[size_t(unit / kv)];
      i64 head = unit % kv;
      const i64 *f = prefixes + p.family * 4;
      i64 prefix = f[1] + f[3], longest = 0;
      for (i64 m = p.from; m < p.to; m++) longest = members[2 * m + 1] > longest ? members[2 * m + 1] : longest;
      i64 keys = padded(prefix + longest) + LANES;
      room.reserve(keys, wide);
      Span all{i64(k), i64(v), kv * size, size};
      room.take<T>(all, head, size, f[0], 0, f[1], true);
      room.take<T>(all, head, size, f[2], f[1], f[3], true);
      room.dk.assign(size_t(keys * wide), 0.0f);
      room.dv.assign(size_t(keys * wide), 0.0f);
      for (i64 m = p.from; m < p.to; m++) {
        i64 begin = members[2 * m], count = members[2 * m + 1], at = begin * heads + head * repeat;
        room.take<T>(all, head, size, begin, prefix, count, true);
        attend_member_backward<T>(room, q + at * size, out + at * size, dout + at * size, dq + at * size, row, lse + at,
                                  heads, count, prefix, repeat, size, scale, window);
        for (i64 i = 0; i < count; i++)
          for (i64 j = 0; j < size; j++) {
            size_t from = size_t((prefix + i) * wide + j), to = size_t(((begin + i) * kv + head) * size + j);
            dk[to] += room.dk[from], dv[to] += room.dv[from];
            room.dk[from] = room.dv[from] = 0;
          }
      }
      auto &keep = kept[size_t(unit)];
      keep.insert(keep.end(), room.dk.begin(), room.dk.begin() + prefix * wide);
      keep.insert(keep.end(), room.dv.begin(), room.dv.begin() + prefix * wide);
    }
#pragma omp for schedule(static)
    for (i64 head = 0; head < kv; head++)
      for (size_t piece = 0; piece < work.size(); piece++) {
        const i64 *f = prefixes + work[piece].family * 4;
        i64 prefix = f[1] + f[3];
        const auto &keep = kept[piece * size_t(kv) + size_t(head)];
        for (i64 i = 0; i < prefix; i++) {
          i64 row = i < f[1] ? f[0] + i : f[2] + i - f[1];
          for (i64 j = 0; j < size; j++) {
            dk[(row * kv + head) * size + j] += keep[size_t(i * wide + j)];
            dv[(row * kv + head) * size + j] += keep[size_t((prefix + i) * wide + j)];
          }
        }
      }
  }
}

// One new token for each of B cells of a grid: q [B, H, D], fresh k and v [B, K, D] at row strides. The caches hold
// keys turned, so that scores read them as they stand: prompt [P, K, D, S] and [P, K, S, D], own [P, K, N, D, M] and
// [P, K, N, M, D], S and M multiples of LANES; cells [B][4]: row, column, own tokens held, and which of the B it is.
// Cells of one row are neighbours. The fresh key and value are written to the cache first.
template <class T>
void grid_forward(const T *q, i64 q_row, const T *fresh_k, const T *fresh_v, i64 k_row, i64 v_row, T *out,
                  const T *prompt_k, const T *prompt_v, T *own_k, T *own_v, const i64 *cells, const i64 *lengths, i64 b,
                  i64 heads, i64 kv, i64 size, i64 s, i64 n, i64 m, float scale, i64 window) {
  std::vector<i64> starts;
  for (i64 i = 0; i < b; i++)
    if (!i || cells[4 * i] != cells[4 * (i - 1)]) starts.push_back(i);
  starts.push_back(b);
  auto work = pieces(starts.data(), i64(starts.size()) - 1, 8);
  i64 repeat = heads / kv, wide = padded(size);
#pragma omp parallel
  {
    std::vector<float> queries, scores, sums;
#pragma omp for schedule(dynamic)
    for (i64 unit = 0; unit < i64(work.size()) * kv; unit++) {
      Piece p = work[size_t(unit / kv)];
      i64 head = unit % kv, row = cells[4 * p.from], rows = (p.to - p.from) * repeat;
      i64 prefix = lengths[row], longest = 0;
      for (i64 i = p.from; i < p.to; i++) longest = cells[4 * i + 2] + 1 > longest ? cells[4 * i + 2] + 1 : longest;
      i64 width = padded(prefix + longest) + LANES;
      const T *shared_k = prompt_k + (row * kv + head) * size * s, *shared_v = prompt_v + (row * kv + head) * s * size;
      queries.assign(size_t(rows * wide), 0.0f), sums.assign(size_t(rows * wide), 0.0f);
      scores.resize(size_t(rows * width));
      for (i64 i = p.from; i < p.to; i++)
        widen(q + cells[4 * i + 3] * q_row + head * repeat * size, repeat, size, scale,
              queries.data() + (i - p.from) * repeat * wide);
      for (i64 r = 0; r < rows; r += ABREAST)  // the prompt is read once for several cells
        BY_ROWS(rows - r, (score<N>(queries.data() + r * wide, shared_k, s, size, padded(prefix),
                                    scores.data() + r * width, width)));
      for (i64 i = p.from; i < p.to; i++) {
        i64 column = cells[4 * i + 1], held = cells[4 * i + 2], which = cells[4 * i + 3];
        i64 place = ((row * kv + head) * n + column) * m * size;
        T *key = own_k + place, *value = own_v + place;
        const T *fresh = fresh_k + which * k_row + head * size;
        for (i64 j = 0; j < size; j++) key[j * m + held] = fresh[j];
        std::memcpy(value + held * size, fresh_v + which * v_row + head * size, size_t(size) * sizeof(T));
        Sight see = sight(prefix + held, window);
        for (i64 r = 0; r < repeat; r += ABREAST) {
          i64 first = (i - p.from) * repeat + r;
          const float *query = queries.data() + first * wide;
          float *mine = scores.data() + first * width;
          BY_ROWS(repeat - r, (score<N>(query, key, m, size, padded(held + 1), mine + prefix, width)));
          for (i64 j = 0; j < repeat - r && j < ABREAST; j++) soften(mine + j * width, see, padded(see.to));
        }
      }
      for (i64 r = 0; r < rows; r += ABREAST) {
        const float *weights = scores.data() + r * width;
        BY_ROWS(rows - r, (gather<N>(weights, width, shared_v, size, 0, prefix, sums.data() + r * wide)));
      }
      for (i64 i = p.from; i < p.to; i++) {
        i64 column = cells[4 * i + 1], held = cells[4 * i + 2], which = cells[4 * i + 3], own = (i - p.from) * repeat;
        i64 from = sight(prefix + held, window).from - prefix;
        const T *value = own_v + ((row * kv + head) * n + column) * m * size;
        for (i64 r = 0; r < repeat; r += ABREAST)
          BY_ROWS(repeat - r, (gather<N>(scores.data() + (own + r) * width + prefix, width, value, size,
                                         from > 0 ? from : 0, held + 1, sums.data() + (own + r) * wide)));
        narrow(sums.data() + own * wide, repeat, size, 1.0f, out + (which * heads + head * repeat) * size);
      }
    }
  }
}

// ---- matrix products ------------------------------------------------------------------------------------------------
//
// A matrix [outer][inner] stands in panels of as many outputs as two registers hold, zeros where there are fewer: of
// fp32 [panel][inner][PANEL], of bf16 by pairs of inputs [panel][inner / 2][PANEL][2]. A sum runs over the inputs in
// their order whatever the number of rows; in bf16 by stretches, as oneDNN 3's does on such processors, so that what
// is sampled has the bits of `linear`, by which is learned.

constexpr i64 PANEL = 2 * LANES;
constexpr int ROWS = REGISTERS == 32 ? 12 : 6;  // of a tile: two registers each, beside the panel's
constexpr i64 TOGETHER = 96;  // rows that go through the panels together, so that they stay in a near cache

template <class T> struct Lines {  // memory that begins with a cache line
  T *at;
  explicit Lines(i64 n) : at(static_cast<T *>(::operator new(size_t(n) * sizeof(T), std::align_val_t(64)))) {}
  ~Lines() { ::operator delete(at, std::align_val_t(64)); }
};

// sums[r] += x[r][k] times a panel's row k, over the inputs. Meanwhile `pace` values are fetched from `next` on with each.
template <int R>
inline void run(const float *x, i64 row, i64 inner, const float *panel, const float *next, i64 pace, vec (&sums)[R][2]) {
  for (i64 k = 0; k < inner; k++, panel += PANEL, next += pace) {
    vec low = at(panel), high = at(panel + LANES);
    __builtin_prefetch(next);
    if constexpr (PANEL > 16) __builtin_prefetch(next + 16);  // lines of a cache are 16 floats
    for (int r = 0; r < R; r++) {
      sums[r][0] = fused(x[r * row + k], low, sums[r][0]);
      sums[r][1] = fused(x[r * row + k], high, sums[r][1]);
    }
  }
}

// While a panel is gone through the next one is fetched, a part by each tile. In bf16 a tile fetches its own panel a
// little ahead, and takes neither `next` nor `pace`.
template <int R>
void tile(const float *x, i64 inner, const float *panel, const float *bias, i64 width, float *y, i64 outer,
          const float *next, i64 pace) {
  vec sums[R][2] = {};
  run<R>(x, inner, inner, panel, next, pace, sums);
  for (int r = 0; r < R; r++) {
    float out[PANEL];
    put(out, sums[r][0]), put(out + LANES, sums[r][1]);
    for (i64 j = 0; j < width; j++) y[r * outer + j] = bias ? out[j] + bias[j] : out[j];
  }
}

#if defined(__AVX512BF16__)
constexpr bool MULTIPLIES_BF16 = true;
constexpr i64 AHEAD = 16 * 2 * PANEL;

template <int R>
void tile(const bf16 *x, i64 inner, const bf16 *panel, const bf16 *bias, i64 width, bf16 *y, i64 outer, const bf16 *,
          i64) {
  __m512 sums[R][2], before[R][2];
  i64 stretch = inner > 1024 ? 1024 : 512;
  for (i64 from = 0; from < inner; from += stretch) {
    if (from) std::memcpy(before, sums, sizeof sums);
    for (int r = 0; r < R; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    i64 to = from + stretch < inner ? from + stretch : inner;
    for (i64 k = from; k < to; k += 2, panel += 2 * PANEL) {
      __m512bh low = (__m512bh)_mm512_loadu_si512(panel), high = (__m512bh)_mm512_loadu_si512(panel + PANEL);
      _mm_prefetch(reinterpret_cast<const char *>(panel + AHEAD), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char *>(panel + AHEAD + PANEL), _MM_HINT_T0);
      for (int r = 0; r < R; r++) {
        int32_t both;
        std::memcpy(&both, x + r * inner + k, 4);
        __m512bh pair = (__m512bh)_mm512_set1_epi32(both);
        sums[r][0] = _mm512_dpbf16_ps(sums[r][0], pair, low);
        sums[r][1] = _mm512_dpbf16_ps(sums[r][1], pair, high);
      }
    }
    if (from)
      for (int r = 0; r < R; r++)
        for (int half = 0; half < 2; half++) sums[r][half] = _mm512_add_ps(before[r][half], sums[r][half]);
  }
  bf16 wide[PANEL] = {};
  if (bias) std::memcpy(wide, bias, size_t(width) * sizeof(bf16));
  for (int r = 0; r < R; r++) {
    bf16 out[PANEL];
    for (int half = 0; half < 2; half++) {
      __m512 sum = bias ? _mm512_add_ps(sums[r][half], (__m512)at(wide + half * LANES)) : sums[r][half];
      __m256bh narrow = _mm512_cvtneps_pbh(sum);
      std::memcpy(out + half * LANES, &narrow, sizeof narrow);
    }
    std::memcpy(y + r * outer, out, size_t(width) * sizeof(bf16));
  }
}

// A matrix's gradient, dyᵀ x, summed over the tokens in fp32 and added to what is there; its own result is never
// rounded to bf16, nor read again to be added. Tokens stand by pairs: x in panels of 32 columns [panel][pair][32][2],
// and of dy what a tile takes, [pair][ROWS][2].

constexpr i64 BLOCKS = 4;  // of ROWS columns of dy, which are read from memory together

inline __mmask16 within(i64 n) { return n >= LANES ? 0xffff : n > 0 ? __mmask16((1 << n) - 1) : 0; }

// Neighbouring values of two rows, by pairs; the second row may be missing.
inline __m512i paired(const bf16 *a, const bf16 *b, __mmask16 some) {
  __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, a));
  if (!b) return low;
  return _mm512_or_si512(low, _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, b)), 16));
}

template <int R>
void tile_up(const bf16 *dy, const bf16 *panel, i64 pairs, float *sum, i64 inner, i64 width, bool first) {
  __m512 sums[R][2];
  for (int r = 0; r < R; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  for (i64 k = 0; k < pairs; k++, panel += 2 * PANEL, dy += 2 * ROWS) {
    __m512bh low = (__m512bh)_mm512_loadu_si512(panel), high = (__m512bh)_mm512_loadu_si512(panel + PANEL);
    _mm_prefetch(reinterpret_cast<const char *>(panel + AHEAD), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char *>(panel + AHEAD + PANEL), _MM_HINT_T0);
    for (int r = 0; r < R; r++) {
      int32_t both;
      std::memcpy(&both, dy + 2 * r, 4);
      __m512bh pair = (__m512bh)_mm512_set1_epi32(both);
      sums[r][0] = _mm512_dpbf16_ps(sums[r][0], pair, low);
      sums[r][1] = _mm512_dpbf16_ps(sums[r][1], pair, high);
    }
  }
  for (int r = 0; r < R; r++)
    for (int half = 0; half < 2; half++) {
      float *to = sum + r * inner + half * LANES;
      __mmask16 some = within(width - half * LANES);
      __m512 before = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(some, to);
      _mm512_mask_storeu_ps(to, some, _mm512_add_ps(before, sums[r][half]));
    }
}

using TileUp = void (*)(const bf16 *, const bf16 *, i64, float *, i64, i64, bool);
constexpr TileUp TILES_UP[ROWS + 1] = {nullptr,    tile_up<1>, tile_up<2>, tile_up<3>,  tile_up<4>,  tile_up<5>, tile_up<6>,
                                       tile_up<7>, tile_up<8>, tile_up<9>, tile_up<10>, tile_up<11>, tile_up<12>};

// sum [outer][inner] += dyᵀ x (first: =), of dy [rows][outer] and x [rows][inner].
void add_product(const bf16 *dy, const bf16 *x, float *sum, i64 rows, i64 outer, i64 inner, bool first) {
  constexpr i64 UNIT = BLOCKS * ROWS;
  i64 pairs = (rows + 1) / 2, panels = (inner + PANEL - 1) / PANEL, units = (outer + UNIT - 1) / UNIT;
  Lines<bf16> laid(panels * pairs * 2 * PANEL);
#pragma omp parallel
  {
    Lines<bf16> own(BLOCKS * pairs * 2 * ROWS);
#pragma omp for schedule(static)
    for (i64 panel = 0; panel < panels; panel++)
      for (i64 k = 0; k < pairs; k++)
        for (i64 j = 0; j < PANEL; j += LANES) {
          const bf16 *a = x + 2 * k * inner + panel * PANEL + j, *b = 2 * k + 1 < rows ? a + inner : nullptr;
          __m512i both = paired(a, b, within(inner - panel * PANEL - j));
          _mm512_storeu_si512(laid.at + (panel * pairs + k) * 2 * PANEL + 2 * j, both);
        }
#pragma omp for schedule(static)
    for (i64 unit = 0; unit < units; unit++) {
      i64 begin = unit * UNIT, end = begin + UNIT < outer ? begin + UNIT : outer;
      for (i64 k = 0; k < pairs; k++) {
        const bf16 *a = dy + 2 * k * outer + begin;
        for (i64 ahead = 8; ahead < 10; ahead++)  // rows lie far apart: no processor guesses the next
          for (i64 j = 0; j <= UNIT; j += UNIT) _mm_prefetch(reinterpret_cast<const char *>(a + ahead * outer + j), _MM_HINT_T0);
        for (i64 from = begin, block = 0; from < end; from += ROWS, block++, a += ROWS) {
          __m512i both = paired(a, 2 * k + 1 < rows ? a + outer : nullptr, within(end - from < ROWS ? end - from : ROWS));
          _mm512_mask_storeu_epi32(own.at + (block * pairs + k) * 2 * ROWS, within(ROWS), both);
        }
      }
      for (i64 panel = 0; panel < panels; panel++)
        for (i64 from = begin, block = 0; from < end; from += ROWS, block++)
          TILES_UP[end - from < ROWS ? end - from : ROWS](own.at + block * pairs * 2 * ROWS,
                                                          laid.at + panel * pairs * 2 * PANEL, pairs,
                                                          sum + from * inner + panel * PANEL, inner,
                                                          inner - panel * PANEL, first);
    }
  }
}
#else
constexpr bool MULTIPLIES_BF16 = false;
template <int R>
void tile(const bf16 *, i64, const bf16 *, const bf16 *, i64, bf16 *, i64, const bf16 *, i64) {}
void add_product(const bf16 *, const bf16 *, float *, i64, i64, i64, bool) {}
#endif

template <class T> using Tile = void (*)(const T *, i64, const T *, const T *, i64, T *, i64, const T *, i64);
template <class T, size_t... R> constexpr std::array<Tile<T>, ROWS> tiles(std::index_sequence<R...>) {
  return {tile<R + 1>...};
}

// y [rows][outer] = x [rows][inner] times the matrix, plus bias or null; inner is even in bf16.
template <class T>
void multiply(const T *matrix, const T *bias, const T *x, T *y, i64 rows, i64 outer, i64 inner) {
  constexpr auto TILES = tiles<T>(std::make_index_sequence<ROWS>());
  i64 panels = (outer + PANEL - 1) / PANEL, stretches = (rows + TOGETHER - 1) / TOGETHER;
#pragma omp parallel for collapse(2) schedule(static)
  for (i64 stretch = 0; stretch < stretches; stretch++)
    for (i64 panel = 0; panel < panels; panel++) {
      i64 from = stretch * rows / stretches, to = (stretch + 1) * rows / stretches, first = panel * PANEL;
      i64 width = outer - first < PANEL ? outer - first : PANEL, tiles = (to - from + ROWS - 1) / ROWS;
      for (i64 t = 0; t < tiles; t++) {
        i64 row = from + t * (to - from) / tiles, end = from + (t + 1) * (to - from) / tiles;
        TILES[size_t(end - row - 1)](x + row * inner, inner, matrix + first * inner, bias ? bias + first : nullptr,
                                     width, y + row * outer + first, outer,
                                     matrix + (first + PANEL) * inner + t * inner * PANEL / tiles,
                                     (PANEL + tiles - 1) / tiles);
      }
    }
}

// ---- products in fp32 with a matrix that is laid out on the way ------------------------------------------------------
//
// For learning, where a matrix changes before it is worth keeping laid out. A row's sums have one order whatever the number
// of rows: forward that of `multiply`, back by stretches of DEEP, so that one over a vocabulary loses no digits.

constexpr i64 DEEP = 1024;    // inputs that are gone through at a time, so that GROUP panels stay in a near cache
constexpr i64 GROUP = 4;      // panels that a tile's rows are read once for
constexpr i64 STRETCH = 512;  // rows for which panels are laid out once

enum class Before { NONE, BEGUN, ADDED };  // what stands in y: nothing, the sum so far, or what the sum is added to

template <int R>
void tile_on(const float *x, i64 row, i64 inner, const float *panel, i64 width, float *y, i64 outer, Before before) {
  vec sums[R][2] = {};
  if (before == Before::BEGUN)
    for (int r = 0; r < R; r++)
      for (i64 h = 0; h < 2; h++) sums[r][h] = first_of(y + r * outer + h * LANES, width - h * LANES);
  run<R>(x, row, inner, panel, panel + PANEL, PANEL, sums);
  for (int r = 0; r < R; r++) {
    float out[PANEL], *to = y + r * outer;
    put(out, sums[r][0]), put(out + LANES, sums[r][1]);
    for (i64 j = 0; j < width; j++) to[j] = before == Before::ADDED ? to[j] + out[j] : out[j];
  }
}

using TileOn = void (*)(const float *, i64, i64, const float *, i64, float *, i64, Before);
template <size_t... R> constexpr std::array<TileOn, ROWS> tiles_on(std::index_sequence<R...>) {
  return {tile_on<R + 1>...};
}

// A panel of `width` columns: [inner][PANEL] from b [inner][..] or, turned, from b [width][..].
void lay(const float *b, i64 row, bool turned, i64 inner, i64 width, float *panel) {
  if (!turned)
    for (i64 k = 0; k < inner; k++)
      for (i64 j = 0; j < PANEL; j += LANES) put(panel + k * PANEL + j, first_of(b + k * row + j, width - j));
  else
    for (i64 j = 0; j < PANEL; j += LANES)
      for (i64 k = 0; k < inner; k += LANES) {
        vec square[LANES];
        for (i64 a = 0; a < LANES; a++)
          square[a] = j + a < width ? first_of(b + (j + a) * row + k, inner - k) : vec{};
        turned_square(square);
        for (i64 a = 0; a < LANES && k + a < inner; a++) put(panel + (k + a) * PANEL + j, square[a]);
      }
}

// A whole matrix [outer][inner] into panels, which are multiplied with, and back out of them, to see what is multiplied
// with. Units are 32 bits: a value of fp32 or a pair of bf16, moved and never computed with.
void lay_all(const float *matrix, float *panels, i64 outer, i64 inner) {
#pragma omp parallel for schedule(static)
  for (i64 first = 0; first < outer; first += PANEL)
    lay(matrix + first * inner, inner, true, inner, outer - first < PANEL ? outer - first : PANEL, panels + first * inner);
}

void read_all(const float *panels, float *matrix, i64 outer, i64 inner) {
#pragma omp parallel for schedule(static)
  for (i64 first = 0; first < outer; first += PANEL)
    for (i64 j = 0; j < PANEL && first + j < outer; j += LANES)
      for (i64 k = 0; k < inner; k += LANES) {
        i64 rows = outer - first - j < LANES ? outer - first - j : LANES, columns = inner - k < LANES ? inner - k : LANES;
        const float *panel = panels + first * inner + k * PANEL + j;
        float *to = matrix + (first + j) * inner + k;
        vec square[LANES];
        for (i64 a = 0; a < LANES; a++) square[a] = a < columns ? at(panel + a * PANEL) : vec{};
        turned_square(square);
        for (i64 a = 0; a < rows; a++)
          if (columns == LANES)
            put(to + a * inner, square[a]);
          else
            std::memcpy(to + a * inner, &square[a], size_t(columns) * sizeof(float));
      }
}

// y [rows][outer] = (add: +=) x [rows][inner] b, of b [inner][outer] (back) or, turned, [outer][inner] (forward).
void product(const float *x, const float *b, bool turned, float *y, i64 rows, i64 outer, i64 inner, bool add) {
  constexpr auto TILES = tiles_on(std::make_index_sequence<ROWS>());
  i64 groups = (outer + GROUP * PANEL - 1) / (GROUP * PANEL), stretches = (rows + STRETCH - 1) / STRETCH;
  i64 blocks = (inner + DEEP - 1) / DEEP, b_row = turned ? inner : outer;
#pragma omp parallel
  {
    Lines<float> laid(GROUP * PANEL * (inner / blocks + 1));
    for (i64 block = 0; block < blocks; block++) {
      i64 begin = block * inner / blocks, deep = (block + 1) * inner / blocks - begin;
      Before before = !block && !add ? Before::NONE : turned ? Before::BEGUN : Before::ADDED;
#pragma omp for collapse(2) schedule(dynamic)
      for (i64 stretch = 0; stretch < stretches; stretch++)
        for (i64 group = 0; group < groups; group++) {
          i64 from = stretch * rows / stretches, to = (stretch + 1) * rows / stretches, first = group * GROUP * PANEL;
          i64 end = first + GROUP * PANEL < outer ? first + GROUP * PANEL : outer;
          for (i64 j = first; j < end; j += PANEL)
            lay(turned ? b + j * b_row + begin : b + begin * b_row + j, b_row, turned, deep,
                end - j < PANEL ? end - j : PANEL, laid.at + (j - first) * deep);
          for (i64 i = from; i < to; i += ROWS)
            for (i64 j = first; j < end; j += PANEL)
              TILES[size_t(to - i < ROWS ? to - i - 1 : ROWS - 1)](x + i * inner + begin, inner, deep,
                                                                  laid.at + (j - first) * deep,
                                                                  end - j < PANEL ? end - j : PANEL, y + i * outer + j,
                                                                  outer, before);
        }
    }
  }
}

// ---- a decoding step through every layer ----------------------------------------------------------------------------
//
// What `models.dense` does one call at a time, in one: with few sequences, the calls took as long as the work.

// cblas_sgemm_compute of MKL: c [m][n] = beta · c + a [m][k] times a matrix that is laid out. Null for our own layout.
using Multiply = void (*)(int, int, int, int m, int n, int k, const float *a, int a_row, const void *b, int b_row,
                          float beta, float *c, int c_row);

template <class T> struct Matrix {  // [outer][inner], laid out, and what is added to each row of its product, or null
  const void *kept;
  const T *bias;
  i64 outer, inner;
};

template <class T> struct Layer {  // norms of the heads may be null
  Matrix<T> qkv, o, gate_up, down;
  const T *before, *after, *q_norm, *k_norm;
  i64 window;
  float eps, scale;
};

void product(Multiply, const Matrix<bf16> &w, const bf16 *x, i64 rows, bf16 *y) {
  multiply(static_cast<const bf16 *>(w.kept), w.bias, x, y, rows, w.outer, w.inner);
}

void product(Multiply theirs, const Matrix<float> &w, const float *x, i64 rows, float *y) {
  constexpr int ROW_MAJOR = 101, PLAIN = 111, PACKED = 151;
  if (!theirs) return multiply(static_cast<const float *>(w.kept), w.bias, x, y, rows, w.outer, w.inner);
  theirs(ROW_MAJOR, PLAIN, PACKED, int(rows), int(w.outer), int(w.inner), x, int(w.inner), w.kept, int(w.outer), 0.0f,
         y, int(w.outer));
  if (w.bias)
    for (i64 i = 0; i < rows; i++)
      for (i64 j = 0; j < w.outer; j++) y[i * w.outer + j] += w.bias[j];
}

// x [B, d], the embeddings, becomes the residual stream; y [B, d] its last norm. caches [layers][4]: addresses of the
// keys and values that `grid_forward` takes.
template <class T>
void step(Multiply multiply, const Layer<T> *layers, i64 count, const T *last, float last_eps, T *x, T *y, const T *cos,
          const T *sin, const i64 *caches, const i64 *cells, const i64 *lengths, i64 b, i64 d,
          i64 heads, i64 kv, i64 size, i64 s, i64 n, i64 m) {
  i64 row = (heads + 2 * kv) * size, inner = layers[0].down.inner;
  std::vector<T> room(size_t(b * (row + heads * size + d + 3 * inner)));
  T *qkv = room.data(), *attended = qkv + b * row, *delta = attended + b * heads * size, *both = delta + b * d,
        *gated = both + b * 2 * inner;
  for (i64 l = 0; l < count; l++) {
    const Layer<T> &layer = layers[l];
    T *k = qkv + heads * size, *v = k + kv * size;
    norm_forward<T>(x, l ? delta : nullptr, layer.before, x, y, nullptr, b, d, layer.eps);
    product(multiply, layer.qkv, y, b, qkv);
    if (layer.q_norm)
      for (i64 i = 0; i < b; i++) {
        T *own = qkv + i * row, *key = own + heads * size;
        norm_forward<T>(own, nullptr, layer.q_norm, nullptr, own, nullptr, heads, size, layer.eps);
        norm_forward<T>(key, nullptr, layer.k_norm, nullptr, key, nullptr, kv, size, layer.eps);
      }
    rotate<T>(qkv, row, qkv, row, cos, sin, b, heads + kv, size, 1.0f);
    T *held[4];
    for (int i = 0; i < 4; i++) held[i] = reinterpret_cast<T *>(caches[4 * l + i]);
    grid_forward<T>(qkv, row, k, v, row, row, attended, held[0], held[1], held[2], held[3], cells, lengths, b,
                        heads, kv, size, s, n, m, layer.scale, layer.window);
    product(multiply, layer.o, attended, b, delta);
    norm_forward<T>(x, delta, layer.after, x, y, nullptr, b, d, layer.eps);
    product(multiply, layer.gate_up, y, b, both);
    gated_forward<T>(both, both + inner, 2 * inner, gated, b, inner);
    product(multiply, layer.down, gated, b, delta);
  }
  norm_forward<T>(x, delta, last, x, y, nullptr, b, d, last_eps);
}

// ---- the distribution over the vocabulary ------------------------------------------------------------------------

constexpr i64 BLOCK = 256;

// Mass of each block of words, exp((x - top) / temperature) summed; returns the whole in double.
template <class T> double masses(const T *x, i64 words, float top, float heat, std::vector<double> &upto) {
  double all = 0;
  upto.clear();
  for (i64 from = 0; from < words; from += BLOCK) {
    i64 to = from + BLOCK < words ? from + BLOCK : words, j = from;
    Sum sum;
    for (; j + LANES <= to; j += LANES)
      for (int l = 0; l < LANES; l++) sum.lane[l] += exp_((load(x[j + l]) - top) * heat);
    for (; j < to; j++) sum.lane[(j - from) % LANES] += exp_((load(x[j]) - top) * heat);
    all += sum.total();
    upto.push_back(all);
  }
  return all;
}

template <class T> float highest(const T *x, i64 words) {
  float top[LANES];
  for (int l = 0; l < LANES; l++) top[l] = -INFINITY;
  i64 j = 0;
  for (; j + LANES <= words; j += LANES)
    for (int l = 0; l < LANES; l++) {
      float y = load(x[j + l]);
      top[l] = y > top[l] ? y : top[l];
    }
  for (; j < words; j++) top[0] = load(x[j]) > top[0] ? load(x[j]) : top[0];
  float max = top[0];
  for (int l = 1; l < LANES; l++) max = top[l] > max ? top[l] : max;
  return max;
}

// The first word whose cumulative mass exceeds uniform * all, and its log-probability under what it is drawn from;
// temperature 0 takes the most likely word, and its log-probability at temperature 1.
template <class T>
void draw(const T *logits, i64 rows, i64 words, const double *uniform, const float *temperature, i64 *picked, float *logp) {
#pragma omp parallel
  {
    std::vector<double> upto;
#pragma omp for schedule(static)
    for (i64 i = 0; i < rows; i++) {
      const T *x = logits + i * words;
      float top = highest(x, words), heat = temperature[i] == 0 ? 1.0f : 1.0f / temperature[i];
      double all = masses(x, words, top, heat, upto);
      i64 at = -1;
      if (temperature[i] == 0) {
        for (i64 j = 0; at < 0 && j < words; j++)
          if (load(x[j]) == top) at = j;
      } else {
        double target = uniform[i] * all;
        size_t block = 0;
        while (block + 1 < upto.size() && upto[block] <= target) block++;
        double sum = block ? upto[block - 1] : 0.0;
        i64 from = i64(block) * BLOCK, to = from + BLOCK < words ? from + BLOCK : words;
        for (i64 j = from; j < to; j++) {
          float mass = exp_((load(x[j]) - top) * heat);
          if (mass > 0) at = j;  // rounding may leave the target beyond the block: then its last word with any mass
          sum += mass;
          if (mass > 0 && sum > target) break;
        }
      }
      picked[i] = at < 0 ? 0 : at;  // nothing has any mass: the logits are NaN, and so is what it is worth
      logp[i] = at < 0 ? NAN : float(double((load(x[at]) - top) * heat) - std::log(all));
    }
  }
}

// log-probability of each row's chosen word, the entropy in nats, and log(sum) + max / temperature for the way back
template <class T>
void chosen_forward(const T *logits, i64 rows, i64 words, const i64 *chosen, float temperature, float *logp,
                    float *entropy, double *lse) {
  float heat = 1.0f / temperature;
#pragma omp parallel for schedule(static)
  for (i64 i = 0; i < rows; i++) {
    const T *x = logits + i * words;
    float top = highest(x, words);
    double all = 0, mean = 0;
    for (i64 from = 0; from < words; from += BLOCK) {
      i64 to = from + BLOCK < words ? from + BLOCK : words, j = from;
      Sum mass, sum;
      for (; j + LANES <= to; j += LANES)
        for (int l = 0; l < LANES; l++) {
          // bounded where exp_ is 0: of a word that is left out, z is -inf; a branch would not become vector code
          float z = (load(x[j + l]) - top) * heat, e = exp_(z);
          mass.lane[l] += e;
          sum.lane[l] += e * (z < -88.0f ? -88.0f : z);
        }
      for (; j < to; j++) {
        float z = (load(x[j]) - top) * heat, e = exp_(z);
        mass.lane[(j - from) % LANES] += e;
        sum.lane[(j - from) % LANES] += e * (z < -88.0f ? -88.0f : z);
      }
      all += mass.total();
      mean += sum.total();
    }
    double log_all = std::log(all);
    logp[i] = float(double((load(x[chosen[i]]) - top) * heat) - log_all);
    entropy[i] = float(log_all - mean / all);
    lse[i] = log_all + double(top) * heat;
  }
}

// In place: logits become the gradient of sum(g * logp + h * entropy) with respect to them.
template <class T>
void chosen_backward(T *logits, i64 rows, i64 words, const i64 *chosen, float temperature, const double *lse,
                     const float *entropy, const float *g, const float *h) {
  float heat = 1.0f / temperature;
#pragma omp parallel for schedule(static)
  for (i64 i = 0; i < rows; i++) {
    T *x = logits + i * words;
    float gi = g[i], hi = h[i], si = entropy[i], li = float(lse[i]), own = load(x[chosen[i]]) * heat - li;
    float at = exp_(own);
    if (hi == 0)
      for (i64 j = 0; j < words; j++) store(x + j, -gi * heat * exp_(load(x[j]) * heat - li));
    else
      for (i64 j = 0; j < words; j++) {
        float log = load(x[j]) * heat - li, p = exp_(log);
        store(x + j, -heat * p * (gi + hi * (p > 0 ? log + si : 0.0f)));
      }
    store(x + chosen[i], heat * (gi * (1.0f - at) - hi * at * (at > 0 ? own + si : 0.0f)));
  }
}

}  // namespace

#define BY_TYPE(type, CALL)                                                                                            \
  if (type) {                                                                                                          \
    using T = bf16;                                                                                                    \
    CALL;                                                                                                              \
  } else {                                                                                                             \
    using T = float;                                                                                                   \
    CALL;                                                                                                              \
  }
#define IN(p) static_cast<const T *>(p)
#define OUT(p) static_cast<T *>(p)

extern "C" {

void covey_norm_forward(int type, const void *x, const void *delta, const void *w, void *sum, void *y, float *rstd,
                        i64 rows, i64 d, float eps) {
  BY_TYPE(type, norm_forward(IN(x), IN(delta), IN(w), OUT(sum), OUT(y), rstd, rows, d, eps))
}
void covey_norm_again(int type, const void *x, const float *rstd, const void *w, void *y, i64 rows, i64 d) {
  BY_TYPE(type, norm_again(IN(x), rstd, IN(w), OUT(y), rows, d))
}
void covey_norm_backward(int type, const void *x, const void *w, const float *rstd, const void *dy, const void *dsum,
                         void *dx, float *dw, i64 rows, i64 d) {
  BY_TYPE(type, norm_backward(IN(x), IN(w), rstd, IN(dy), IN(dsum), OUT(dx), dw, rows, d))
}
void covey_rotate(int type, const void *x, i64 stride, void *y, i64 to, const void *cos, const void *sin, i64 rows,
                  i64 heads, i64 size, float sign) {
  BY_TYPE(type, rotate(IN(x), stride, OUT(y), to, IN(cos), IN(sin), rows, heads, size, sign))
}
void covey_add_up(int type, const void *x, float *sum, i64 n) {
  BY_TYPE(type, add_up(IN(x), sum, n))
}
void covey_gated_forward(int type, const void *gate, const void *up, i64 stride, void *y, i64 rows, i64 d) {
  BY_TYPE(type, gated_forward(IN(gate), IN(up), stride, OUT(y), rows, d))
}
void covey_gated_backward(int type, const void *gate, const void *up, const void *dy, void *y, void *dgate, void *dup,
                          i64 n) {
  BY_TYPE(type, gated_backward(IN(gate), IN(up), IN(dy), OUT(y), OUT(dgate), OUT(dup), n))
}
void covey_tree_forward(int type, const void *q, const void *k, const void *v, void *out, float *lse,
                        const i64 *prefixes, const i64 *members_of, const i64 *members, i64 families, i64 heads, i64 kv,
                        i64 size, float scale, i64 window) {
  BY_TYPE(type, tree_forward(IN(q), IN(k), IN(v), OUT(out), lse, prefixes, members_of, members, families, heads, kv,
                             size, scale, window))
}
void covey_tree_backward(int type, const void *q, const void *k, const void *v, const void *out, const float *lse,
                         const void *dout, void *dq, float *dk, float *dv, const i64 *prefixes, const i64 *members_of,
                         const i64 *members, i64 families, i64 heads, i64 kv, i64 size, float scale, i64 window) {
  BY_TYPE(type, tree_backward(IN(q), IN(k), IN(v), IN(out), lse, IN(dout), OUT(dq), dk, dv, prefixes, members_of,
                              members, families, heads, kv, size, scale, window))
}
void covey_grid_forward(int type, const void *q, i64 q_row, const void *fresh_k, const void *fresh_v, i64 k_row,
                        i64 v_row, void *out, void *prompt_k, void *prompt_v, void *own_k, void *own_v, const i64 *cells,
                        const i64 *lengths, i64 b, i64 heads, i64 kv, i64 size, i64 s, i64 n, i64 m, float scale,
                        i64 window) {
  BY_TYPE(type, grid_forward(IN(q), q_row, IN(fresh_k), IN(fresh_v), k_row, v_row, OUT(out), OUT(prompt_k), OUT(prompt_v),
                             OUT(own_k), OUT(own_v), cells, lengths, b, heads, kv, size, s, n, m, scale, window))
}
int covey_multiplies_bf16() { return MULTIPLIES_BF16; }
i64 covey_panel() { return PANEL; }
void covey_lay(const float *matrix, float *panels, i64 outer, i64 inner) { lay_all(matrix, panels, outer, inner); }
void covey_read(const float *panels, float *matrix, i64 outer, i64 inner) { read_all(panels, matrix, outer, inner); }
void covey_multiply(int type, const void *matrix, const void *bias, const void *x, void *y, i64 rows, i64 outer,
                    i64 inner) {
  BY_TYPE(type, multiply(IN(matrix), IN(bias), IN(x), OUT(y), rows, outer, inner))
}
void covey_add_product(int type, const void *dy, const void *x, float *sum, i64 rows, i64 outer, i64 inner, i64 first) {
  using T = bf16;
  if (type) add_product(IN(dy), IN(x), sum, rows, outer, inner, first);
}
void covey_product(int type, const float *x, const float *b, i64 turned, float *y, i64 rows, i64 outer, i64 inner,
                   i64 add) {
  if (!type) product(x, b, turned, y, rows, outer, inner, add);
}
void covey_step(int type, Multiply multiply, const void *layers, i64 count, const void *last, float last_eps, void *x,
                void *y, const void *cos, const void *sin, const i64 *caches, const i64 *cells, const i64 *lengths,
                i64 b, i64 d, i64 heads, i64 kv, i64 size, i64 s, i64 n, i64 m) {
  BY_TYPE(type, step(multiply, static_cast<const Layer<T> *>(layers), count, IN(last), last_eps, OUT(x), OUT(y), IN(cos),
                     IN(sin), caches, cells, lengths, b, d, heads, kv, size, s, n, m))
}
void covey_draw(int type, const void *logits, i64 rows, i64 words, const double *uniform, const float *temperature,
                i64 *picked, float *logp) {
  BY_TYPE(type, draw(IN(logits), rows, words, uniform, temperature, picked, logp))
}
void covey_chosen_forward(int type, const void *logits, i64 rows, i64 words, const i64 *chosen, float temperature,
                          float *logp, float *entropy, double *lse) {
  BY_TYPE(type, chosen_forward(IN(logits), rows, words, chosen, temperature, logp, entropy, lse))
}
void covey_chosen_backward(int type, void *logits, i64 rows, i64 words, const i64 *chosen, float temperature,
                           const double *lse, const float *entropy, const float *g, const float *h) {
  BY_TYPE(type, chosen_backward(OUT(logits), rows, words, chosen, temperature, lse, entropy, g, h))
}
}
