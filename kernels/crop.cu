// From a frame in device memory to the network's input: the squares around a batch of targets, resized, one launch.
//
// A thread makes one pixel of one crop in all three channels, so that a warp writes 32 neighbours of a row of each
// plane and its four byte gathers fall into a few lines of the frame. `siamtrt.kernels.crop.crop_ref` is the same in
// NumPy; both give OpenCV's grey levels. Not for --use_fast_math, whose division would move samples.
#include "common.cuh"

enum FrameFormat : int32_t { BGR, RGB, BGRA, RGBA, NV12 };

// A frame in device memory, 40 bytes; `siamtrt.kernels.crop.FRAME` is the same as a NumPy dtype.
struct Frame {
  const uint8_t* data;           // pixels; the luma plane of NV12
  const uint8_t* chroma;         // NV12: interleaved U and V, (height + 1) / 2 rows; else not read
  int32_t width, height;         // pixels, at least 1
  int32_t pitch, chroma_pitch;   // bytes from a row to the next
  int32_t format;                // a FrameFormat
  int32_t reserved;
};
static_assert(sizeof(Frame) == 40, "siamtrt.kernels.crop.FRAME");

struct CropArguments {
  const Target* targets;    // one for each block in z
  const Frame* described;   // the frame, if not null: a captured graph is replayed with whatever is written there
  void* crops;              // (N, 3, out_size, out_size) float, or half
  Frame frame;              // the frame, if `described` is null
  int32_t out_size;         // side of a crop in pixels, 1..4096
  int32_t scale_size;       // pixels of a crop that hold the target with its context
  int32_t rgb;              // 0: planes in the order blue, green, red; 1: red, green, blue
  float context_amount;     // margin as a share of width plus height (SiamRPN, eq. 15)
  float scale[3], offset[3];  // plane p holds value * scale[p] + offset[p]
};
static_assert(sizeof(CropArguments) == 104, "no padding");

// Beyond these nothing of a frame is left to see; they keep 2 * 4096 * side within 31 bits.
constexpr float MAX_SIDE = 131072.0f;
constexpr float MAX_CENTER = 4194304.0f;

struct Pixel {
  int32_t c0, c1, c2;
};

// Where an output row or column samples the square: two of its rows or columns and their weights, 2048 together.
struct Taps {
  int32_t first, second;
  int32_t first_weight, second_weight;
};

__device__ __forceinline__ int32_t clamped(int32_t value, int32_t low, int32_t high) {
  return value < low ? low : value > high ? high : value;
}

// sqrt((w + m)(h + m)) * out_size / scale_size with m = context_amount * (w + h), rounded, ties to even; 1 for NaN.
//
// Seven roundings of 2^-24 cannot carry floats over a tie that is further away than 1e-6 of the result. Nearer, for
// one target in a thousand and then in all its threads, doubles decide, as on the CPU.
__device__ __forceinline__ int32_t side_of(float w, float h, const CropArguments& arguments) {
  const float margin = arguments.context_amount * (w + h);
  const float zoom = static_cast<float>(arguments.out_size) / static_cast<float>(arguments.scale_size);
  const float exact = sqrtf((w + margin) * (h + margin)) * zoom;
  float side = rintf(exact);
  if (0.5f - fabsf(exact - side) < 1e-6f * exact) {
    const double wide = w, high = h;
    const double margins = arguments.context_amount * (wide + high);
    const double zooms = static_cast<double>(arguments.out_size) / arguments.scale_size;
    side = static_cast<float>(rint(sqrt((wide + margins) * (high + margins)) * zooms));
  }
  return static_cast<int32_t>(fminf(fmaxf(side, 1.0f), MAX_SIDE));
}

// floor(center - (side + 1) / 2 + 0.5) without the sum, which may need more than a float's 24 bits.
__device__ __forceinline__ int32_t start_of(float center, int32_t side) {
  const float inside = fminf(fmaxf(center, -MAX_CENTER), MAX_CENTER);
  const float whole = floorf(inside);
  const bool upper_half = inside - whole >= 0.5f;
  return static_cast<int32_t>(whole) - (side + 1) / 2 + (side % 2 == 1 && upper_half ? 1 : 0);
}

// OpenCV's INTER_LINEAR: (index + 0.5) * side / out_size - 0.5 as a float, weights in 11 bits.
__device__ __forceinline__ Taps taps_of(int32_t index, int32_t side, int32_t out_size) {
  const float at = static_cast<float>((2 * index + 1) * side - out_size) / static_cast<float>(2 * out_size);
  const float whole = floorf(at);
  const int32_t first = static_cast<int32_t>(whole);
  const int32_t weight = static_cast<int32_t>(rintf((at - whole) * 2048.0f));
  return {clamped(first, 0, side - 1), clamped(first + 1, 0, side - 1), 2048 - weight, weight};
}

// OpenCV's COLOR_YUV2BGR_NV12: BT.601, luma 16..235, coefficients in 20 bits (1.164, 2.018, 0.391, 0.813, 1.596).
__device__ __forceinline__ Pixel bgr_from_nv12(const Frame& frame, int32_t x, int32_t y) {
  const uint8_t* pair = frame.chroma + static_cast<size_t>(y / 2) * frame.chroma_pitch + x / 2 * 2;
  const int32_t luma = frame.data[static_cast<size_t>(y) * frame.pitch + x];
  const int32_t u = pair[0] - 128, v = pair[1] - 128;
  const int32_t grey = (luma > 16 ? luma - 16 : 0) * 1220542 + (1 << 19);
  return {clamped((grey + 2116026 * u) >> 20, 0, 255), clamped((grey - 409993 * u - 852492 * v) >> 20, 0, 255),
          clamped((grey + 1673527 * v) >> 20, 0, 255)};
}

// A pixel in the frame's channel order (NV12: blue, green, red); `fill` outside the frame.
__device__ __forceinline__ Pixel pixel_at(const Frame& frame, int32_t x, int32_t y, const Pixel& fill) {
  if (x < 0 || y < 0 || x >= frame.width || y >= frame.height) return fill;
  if (frame.format == NV12) return bgr_from_nv12(frame, x, y);
  const int32_t bytes = frame.format >= BGRA ? 4 : 3;
  const uint8_t* at = frame.data + static_cast<size_t>(y) * frame.pitch + static_cast<size_t>(x) * bytes;
  return {at[0], at[1], at[2]};
}

// Weighted mean of four grey levels with the truncations of OpenCV's vertical pass: 22 bits, 4, then 16, then 2 of
// them dropped.
__device__ __forceinline__ float blended(int32_t p00, int32_t p01, int32_t p10, int32_t p11, const Taps& x,
                                         const Taps& y) {
  const int32_t upper = (p00 * x.first_weight + p01 * x.second_weight) >> 4;
  const int32_t lower = (p10 * x.first_weight + p11 * x.second_weight) >> 4;
  return static_cast<float>((((y.first_weight * upper) >> 16) + ((y.second_weight * lower) >> 16) + 2) >> 2);
}

__device__ __forceinline__ void store(float* at, float value) { *at = value; }
__device__ __forceinline__ void store(half* at, float value) { *at = __float2half(value); }

template <typename T>
__device__ __forceinline__ void crop(const CropArguments& arguments) {
  const int32_t out_size = arguments.out_size;
  const int32_t column = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  const int32_t row = static_cast<int32_t>(blockIdx.y * blockDim.y + threadIdx.y);
  const Target& target = arguments.targets[blockIdx.z];
  if (column >= out_size || row >= out_size || !target.active) return;

  const Frame frame = arguments.described ? *arguments.described : arguments.frame;
  const int32_t side = side_of(target.w, target.h, arguments);
  const int32_t left = start_of(target.cx, side), top = start_of(target.cy, side);
  const Taps x = taps_of(column, side, out_size), y = taps_of(row, side, out_size);
  const Pixel fill = {target.fill[0], target.fill[1], target.fill[2]};
  const Pixel p00 = pixel_at(frame, left + x.first, top + y.first, fill);
  const Pixel p01 = pixel_at(frame, left + x.second, top + y.first, fill);
  const Pixel p10 = pixel_at(frame, left + x.first, top + y.second, fill);
  const Pixel p11 = pixel_at(frame, left + x.second, top + y.second, fill);
  const float c0 = blended(p00.c0, p01.c0, p10.c0, p11.c0, x, y);
  const float c1 = blended(p00.c1, p01.c1, p10.c1, p11.c1, x, y);
  const float c2 = blended(p00.c2, p01.c2, p10.c2, p11.c2, x, y);

  const bool frame_is_rgb = frame.format == RGB || frame.format == RGBA;
  const bool swapped = frame_is_rgb != (arguments.rgb != 0);
  const size_t plane = static_cast<size_t>(out_size) * out_size;
  T* __restrict__ out = static_cast<T*>(arguments.crops) + blockIdx.z * 3 * plane +
                        static_cast<size_t>(row) * out_size + column;
  store(out, fmaf(swapped ? c2 : c0, arguments.scale[0], arguments.offset[0]));
  store(out + plane, fmaf(c1, arguments.scale[1], arguments.offset[1]));
  store(out + 2 * plane, fmaf(swapped ? c0 : c2, arguments.scale[2], arguments.offset[2]));
}

extern "C" __global__ void __launch_bounds__(128) crop_f32(const CropArguments arguments) { crop<float>(arguments); }
extern "C" __global__ void __launch_bounds__(128) crop_f16(const CropArguments arguments) { crop<half>(arguments); }

HOST_ENTRY_WITHOUT_BARRIERS(crop_f32, CropArguments)
HOST_ENTRY_WITHOUT_BARRIERS(crop_f16, CropArguments)
