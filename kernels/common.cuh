// What every kernel shares: the built-ins, on a GPU or on a host, and the device-side state of a target.
#pragma once

#ifdef __CUDACC__
#include <cuda_fp16.h>
typedef unsigned char uint8_t;
typedef int int32_t;
#define HOST_ENTRY(kernel, Arguments)
#define HOST_ENTRY_WITHOUT_BARRIERS(kernel, Arguments)
#define HOST_PLAIN_ENTRY(kernel)
#else
#include "host_shim.h"
#endif

// One target, 48 bytes; `siamtrt.kernels.state.TARGET` is the same as a NumPy dtype.
struct Target {
  float cx, cy;              // centre in frame pixels
  float w, h;                // size in frame pixels
  float score;               // 0..1
  int32_t status;            // 0 tracked, 1 invalid
  int32_t row, column;       // of the response map, chosen last
  uint8_t fill[4];           // padding colour in the frame's channel order
  int32_t active;            // 0: an empty slot, which kernels skip
  float reserved[2];
};
