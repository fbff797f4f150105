// Region proposals to the next state of each target: one block a target, in FP32, states updated in place.
// `decode_ref` in decode.py is the reference and says what the arrays hold.
#include "common.cuh"

struct DecodeArguments {
  Target* targets;            // (N,)
  const void* cls;            // (N, 2A, S, S) logits, A of the background, then A of the target
  const void* loc;            // (N, 4A, S, S) raw offsets, or distances from points
  const float* window;        // (S, S), nowhere negative
  const float* anchor_sides;  // (A, 2) widths and heights in search-crop pixels; not read for points
  int32_t count;              // N
  int32_t anchors;            // A
  int32_t score_size;         // S
  int32_t stride;             // search-crop pixels between positions of the map
  int32_t points;             // 1: distances from points, with A = 1
  int32_t scale_size;         // pixels of a crop that hold the target with its context
  int32_t frame_width, frame_height;
  float context_amount;
  float penalty_k;
  float lr;
  float min_side;
};

// One pass over the 625 positions of SiamRPN++. The kernels take 32 to 54 registers: with 1024 threads they would spill
// on the Nano and the TX2, whose blocks have 32768, and anywhere if two blocks were to fit a multiprocessor.
constexpr unsigned MAX_THREADS = 640;
constexpr float LARGEST = 3.402823466e38f;

struct Size {
  float width, height;
};

// A target's last state as proposals are compared with it.
struct Last {
  float zoom;          // search-crop pixels a frame pixel
  float inverse_area;  // of the square that holds target and context, in crop pixels
  float aspect;        // width over height
};

struct Scored {
  float inverse_score;  // one over the target's probability
  float penalised;      // score times penalty
};

static __device__ __forceinline__ float load(const float* values, int index) { return values[index]; }
static __device__ __forceinline__ float load(const half* values, int index) { return __half2float(values[index]); }

static __device__ __forceinline__ bool is_finite(float value) { return fabsf(value) <= LARGEST; }

static __device__ __forceinline__ float clip(float value, float low, float high) {
  return fmaxf(low, fminf(value, high));  // low wins where a frame is smaller than the smallest target
}

// max(r, 1/r). NaN stays NaN, although fmaxf prefers numbers: then both are NaN.
static __device__ __forceinline__ float mismatch(float ratio) { return fmaxf(ratio, 1.0f / ratio); }

// (w + 2p)(h + 2p) with 2p = context * (w + h) (SiamRPN, eq. 15).
static __device__ __forceinline__ float context_area(const Target& target, float context) {
  const float margin = context * (target.w + target.h);
  return (target.w + margin) * (target.h + margin);
}

static __device__ __forceinline__ Last last_of(const Target& target, const DecodeArguments& arguments) {
  const float zoom = static_cast<float>(arguments.scale_size) / sqrtf(context_area(target, arguments.context_amount));
  return {zoom, 1.0f / (context_area(target, 0.5f) * zoom * zoom), target.w / target.h};
}

// Of a proposal in crop pixels (SiamRPN, eq. 12); `planes` is A * S * S, the distance between its four values.
template <typename Value>
static __device__ __forceinline__ Size proposed_size(
    const Value* __restrict__ loc, int planes, int index, bool points, Size anchor) {
  if (points)
    return {load(loc, index) + load(loc, index + 2 * planes),
            load(loc, index + planes) + load(loc, index + 3 * planes)};
  return {expf(load(loc, index + 2 * planes)) * anchor.width, expf(load(loc, index + 3 * planes)) * anchor.height};
}

// Score and penalty on a change of scale and shape (SiamRPN, eqs. 13 and 14).
template <typename Value>
static __device__ __forceinline__ Scored scored(
    const Value* __restrict__ cls, int planes, int index, Size size, Last last, float penalty_k) {
  const float inverse_score = 1.0f + expf(load(cls, index) - load(cls, index + planes));
  const float total = size.width + size.height;  // with p half of it, (w + p)(h + p) = wh + 3/4 (w + h)^2
  const float area = size.width * size.height + total * total * 0.75f;
  const float scale = sqrtf(mismatch(area * last.inverse_area));
  const float shape = mismatch(size.height / size.width * last.aspect);
  return {inverse_score, expf((1.0f - scale * shape) * penalty_k) / inverse_score};
}

static __device__ __forceinline__ Size anchor_at(const DecodeArguments& arguments, int anchor) {
  if (arguments.points) return {0.0f, 0.0f};
  return {arguments.anchor_sides[2 * anchor], arguments.anchor_sides[2 * anchor + 1]};
}

// The largest key is the highest rank, of equal ones the lowest index. Ranks are not negative, so that their bits as an
// integer are in their order, with infinity above every number and NaN, of either sign, above infinity: one that is not
// finite wins, as with np.argmax, and makes the target invalid. 0 is below every key.
static __device__ __forceinline__ unsigned long long key_of(float rank, int index) {
  return static_cast<unsigned long long>(__float_as_uint(rank)) << 32 | (0xffffffffu - static_cast<unsigned>(index));
}

static __device__ __forceinline__ int index_of(unsigned long long key) {
  return static_cast<int>(0xffffffffu - static_cast<unsigned>(key));
}

// The state at proposal `index`, by one thread. Its values are loaded and computed anew: a handful of operations once,
// instead of a larger reduction.
template <typename Value>
static __device__ __forceinline__ void move(
    Target& target, const DecodeArguments& arguments, const Value* __restrict__ cls, const Value* __restrict__ loc,
    Last last, int index) {
  const int side = arguments.score_size, cells = side * side, planes = arguments.anchors * cells;
  const int row = index % cells / side, column = index % side;
  const Size anchor = anchor_at(arguments, index / cells);
  const Size size = proposed_size(loc, planes, index, arguments.points, anchor);
  const Scored best = scored(cls, planes, index, size, last, arguments.penalty_k);

  float dx = load(loc, index), dy = load(loc, index + planes);
  // Sums of distances that are finite, the size of a proposal from a point, have finite terms.
  if (!(is_finite(dx) && is_finite(dy) && is_finite(size.width) && is_finite(size.height) &&
        is_finite(best.penalised))) {
    target.score = 0.0f;
    target.status = 1;
    return;
  }
  if (arguments.points) {
    dx = (load(loc, index + 2 * planes) - dx) / 2.0f;
    dy = (load(loc, index + 3 * planes) - dy) / 2.0f;
  } else {
    dx *= anchor.width;
    dy *= anchor.height;
  }
  dx += static_cast<float>((column - side / 2) * arguments.stride);
  dy += static_cast<float>((row - side / 2) * arguments.stride);

  // dx and dy may have overflowed to infinity, which the clipping takes to the frame's border. At rate 0 a size may
  // be infinite after the division and 0 * inf is NaN; any other rate is of a size that had a finite area.
  const float rate = best.penalised * arguments.lr;
  const float wider = rate == 0.0f ? 0.0f : rate * (size.width / last.zoom - target.w);
  const float higher = rate == 0.0f ? 0.0f : rate * (size.height / last.zoom - target.h);
  const float frame_width = static_cast<float>(arguments.frame_width);
  const float frame_height = static_cast<float>(arguments.frame_height);
  target.cx = clip(target.cx + dx / last.zoom, 0.0f, frame_width);
  target.cy = clip(target.cy + dy / last.zoom, 0.0f, frame_height);
  target.w = clip(target.w + wider, arguments.min_side, frame_width);
  target.h = clip(target.h + higher, arguments.min_side, frame_height);
  target.score = 1.0f / best.inverse_score;
  target.status = 0;
  target.row = row;
  target.column = column;
}

template <typename Value>
static __device__ __forceinline__ void decode(const DecodeArguments& arguments) {
  __shared__ unsigned long long keys[MAX_THREADS];
  const int slot = static_cast<int>(blockIdx.x);
  if (slot >= arguments.count || !arguments.targets[slot].active) return;  // the whole block

  Target& target = arguments.targets[slot];
  const int cells = arguments.score_size * arguments.score_size, planes = arguments.anchors * cells;
  const Value* __restrict__ cls = static_cast<const Value*>(arguments.cls) + 2ll * planes * slot;
  const Value* __restrict__ loc = static_cast<const Value*>(arguments.loc) + 4ll * planes * slot;
  const float* __restrict__ window = arguments.window;
  const Last last = last_of(target, arguments);  // by every thread: two divisions, and no wait for one of them

  // Anchor by anchor: 32 lanes read 32 neighbours of each plane, and no index has to be divided.
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  unsigned long long best = 0;
  for (int number = 0; number < arguments.anchors; ++number) {
    const Size anchor = anchor_at(arguments, number);
    for (int cell = thread; cell < cells; cell += threads) {
      const int index = number * cells + cell;
      const Size size = proposed_size(loc, planes, index, arguments.points, anchor);
      const Scored one = scored(cls, planes, index, size, last, arguments.penalty_k);
      const unsigned long long key = key_of(one.penalised + window[cell], index);
      best = key > best ? key : best;
    }
  }

  // Upper half into lower, for any number of threads.
  keys[thread] = best;
  for (int kept = threads; kept > 1;) {
    __syncthreads();
    const int lower = (kept + 1) / 2;
    if (thread + lower < kept && keys[thread + lower] > keys[thread]) keys[thread] = keys[thread + lower];
    kept = lower;
  }
  if (thread == 0) move(target, arguments, cls, loc, last, index_of(keys[0]));
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 1) decode_f32(const DecodeArguments arguments) {
  decode<float>(arguments);
}
HOST_ENTRY(decode_f32, DecodeArguments)

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 1) decode_f16(const DecodeArguments arguments) {
  decode<half>(arguments);
}
HOST_ENTRY(decode_f16, DecodeArguments)
