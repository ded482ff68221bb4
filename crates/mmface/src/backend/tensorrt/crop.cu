// Cuts crops out of a frame on the GPU: bilinear interpolation, black outside the frame, Y'CbCr
// converted to R'G'B'.
//
// The counterpart of crop/mod.rs, which explains the conventions; the arithmetic is the same, bit
// for bit. NVRTC compiles this file when the program starts, and a test (tests/it/kernel/) compiles
// it as plain C++. So it includes nothing, and of CUDA it uses only the qualifiers, blockIdx,
// blockDim and threadIdx.

// The structs mirror kernel.rs.

// The samples of one channel in the frame's bytes.
struct Plane {
    unsigned offset; // bytes to the first sample
    unsigned stride; // bytes from one row to the next
    unsigned pitch;  // bytes from a sample to its right neighbour
    int width, height;
};

struct Geometry {
    Plane planes[3]; // R, G, B or Y, Cb, Cr
    int yuv;         // 0 for R, G, B
    int black;       // Y' of black, 8 fraction bits
    int luma, red, green_cb, green_cr, blue; // factors of the conversion, 12 fraction bits
};

// From crop pixels to frame pixels: frame = centre + Rot(angle) * (across, down) * (crop - 127.5).
struct Map {
    float x, y, across, down, sin, cos; // across is negative for a mirrored crop
    int step_x, step_y; // step in the frame for one crop pixel to the right, 16 fraction bits
};

enum { CROP = 256 };

// One sample. Outside the channel it is `outside`, or the nearest border sample if that is
// negative.
__device__ static int tap(const unsigned char* frame, const Plane& p, int x, int y, int outside) {
    if (x < 0 || y < 0 || x >= p.width || y >= p.height) {
        if (outside >= 0) return outside;
        x = x < 0 ? 0 : x >= p.width ? p.width - 1 : x;
        y = y < 0 ? 0 : y >= p.height ? p.height - 1 : y;
    }
    return frame[p.offset + (unsigned long long)y * p.stride + (unsigned long long)x * p.pitch];
}

// Interpolates between a and b; 8 fraction bits.
__device__ static int mix(int a, int b, int part) { return a * 256 + part * (b - a); }

// The bilinear value at (x, y), 8 fraction bits. Samples outside the channel: see `tap`.
__device__ static int bilinear(const unsigned char* frame, const Plane& p, long long x, long long y, int outside) {
    int ix = (int)(x >> 16), iy = (int)(y >> 16);
    int ax = (int)(x >> 8 & 255), ay = (int)(y >> 8 & 255);
    int top = mix(tap(frame, p, ix, iy, outside), tap(frame, p, ix + 1, iy, outside), ax);
    int bottom = mix(tap(frame, p, ix, iy + 1, outside), tap(frame, p, ix + 1, iy + 1, outside), ax);
    return top + (ay * (bottom - top) >> 8);
}

// Rounds a value with 20 fraction bits.
__device__ static unsigned char to_byte(int value) {
    value = (value + (1 << 19)) >> 20;
    return (unsigned char)(value < 0 ? 0 : value > 255 ? 255 : value);
}

// out: [crops][R, G, B][256][256]. One thread per pixel; blockIdx.z is the crop.
extern "C" __global__ void crop(const unsigned char* frame, const Geometry* geometry, const Map* maps, unsigned char* out) {
    int u = blockIdx.x * blockDim.x + threadIdx.x;
    int v = blockIdx.y * blockDim.y + threadIdx.y;
    if (u >= CROP || v >= CROP) return;
    const Geometry& g = *geometry;
    const Map& m = maps[blockIdx.z];

    // The start of the row is computed as in crop/mod.rs, then pixels follow in fixed-point steps.
    float left = m.across * (0.0f - 127.5f), down = m.down * ((float)v - 127.5f);
    long long x = (long long)roundf((m.x + m.cos * left - m.sin * down) * 65536.0f) + (long long)u * m.step_x;
    long long y = (long long)roundf((m.y + m.sin * left + m.cos * down) * 65536.0f) + (long long)u * m.step_y;

    const long long plane = CROP * CROP;
    unsigned char* pixel = out + blockIdx.z * 3 * plane + v * CROP + u;
    if (!g.yuv) {
        for (int c = 0; c < 3; c++) pixel[c * plane] = (unsigned char)((bilinear(frame, g.planes[c], x, y, 0) + 128) >> 8);
        return;
    }
    const long long one = 65536;
    if (x <= -one || y <= -one || x >= g.planes[0].width * one || y >= g.planes[0].height * one) {
        for (int c = 0; c < 3; c++) pixel[c * plane] = 0;
        return;
    }
    int luma = g.luma * (bilinear(frame, g.planes[0], x, y, g.black >> 8) - g.black);
    // Chroma samples lie on every second luma column and half way between two luma rows.
    long long cx = x >> 1, cy = (y - one / 2) >> 1;
    int cb = bilinear(frame, g.planes[1], cx, cy, -1) - 128 * 256;
    int cr = bilinear(frame, g.planes[2], cx, cy, -1) - 128 * 256;
    pixel[0] = to_byte(luma + g.red * cr);
    pixel[plane] = to_byte(luma - g.green_cb * cb - g.green_cr * cr);
    pixel[2 * plane] = to_byte(luma + g.blue * cb);
}
