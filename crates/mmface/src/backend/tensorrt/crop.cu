// Cuts crops out of a frame on the GPU: bilinear, black outside the frame; Y'CbCr becomes R'G'B'.
//
// The counterpart of crop/mod.rs, which explains the conventions; the arithmetic is the same, bit for
// bit. Compiled by NVRTC when the program starts, and as plain
// C++ by a test (tests/it/kernel/), so it includes nothing and uses no more of CUDA than blockIdx
// and threadIdx.

// The structs mirror kernel.rs.

// One plane of bytes in the frame's memory.
struct Plane {
    unsigned offset; // of its first sample, bytes
    unsigned stride; // from a row to the next, bytes
    unsigned pitch;  // from a sample to its right neighbour, bytes
    int width, height;
};

struct Geometry {
    Plane planes[3]; // R, G, B or Y, Cb, Cr
    int yuv;         // 0: RGB
    int black;       // Y' of black, 8 bits after the point
    int luma, red, green_cb, green_cr, blue; // the conversion's factors, 12 bits after the point
};

// Crop pixel to frame pixel: frame = centre + Rot(angle) * (across, down) * (crop - 127.5).
struct Map {
    float x, y, across, down, sin, cos; // across is negative in a mirrored crop
    int step_x, step_y; // one crop pixel to the right, in the frame, 16 bits after the point
};

enum { CROP = 256 };

__device__ static int tap(const unsigned char* frame, const Plane& p, int x, int y, int outside) {
    if (x < 0 || y < 0 || x >= p.width || y >= p.height) {
        if (outside >= 0) return outside;
        x = x < 0 ? 0 : x >= p.width ? p.width - 1 : x;
        y = y < 0 ? 0 : y >= p.height ? p.height - 1 : y;
    }
    return frame[p.offset + (unsigned long long)y * p.stride + (unsigned long long)x * p.pitch];
}

// Between a and b, 8 bits after the point.
__device__ static int mix(int a, int b, int part) { return a * 256 + part * (b - a); }

// Bilinear value at (x, y), 8 bits after the point. Beyond the border lies `outside`; where that is
// negative, the border goes on for ever.
__device__ static int bilinear(const unsigned char* frame, const Plane& p, long long x, long long y, int outside) {
    int ix = (int)(x >> 16), iy = (int)(y >> 16);
    int ax = (int)(x >> 8 & 255), ay = (int)(y >> 8 & 255);
    int top = mix(tap(frame, p, ix, iy, outside), tap(frame, p, ix + 1, iy, outside), ax);
    int bottom = mix(tap(frame, p, ix, iy + 1, outside), tap(frame, p, ix + 1, iy + 1, outside), ax);
    return top + (ay * (bottom - top) >> 8);
}

// From 20 bits after the point.
__device__ static unsigned char to_byte(int value) {
    value = (value + (1 << 19)) >> 20;
    return (unsigned char)(value < 0 ? 0 : value > 255 ? 255 : value);
}

// out: [faces][R, G, B][256][256]. One thread a pixel: blockIdx.z is the face.
extern "C" __global__ void crop(const unsigned char* frame, const Geometry* geometry, const Map* maps, unsigned char* out) {
    int u = blockIdx.x * blockDim.x + threadIdx.x;
    int v = blockIdx.y * blockDim.y + threadIdx.y;
    if (u >= CROP || v >= CROP) return;
    const Geometry& g = *geometry;
    const Map& m = maps[blockIdx.z];

    // The start of the row, as crop/mod.rs computes it, then along the row in whole steps.
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
    // Chroma samples lie on every second luma column and between two rows.
    long long cx = x >> 1, cy = (y - one / 2) >> 1;
    int cb = bilinear(frame, g.planes[1], cx, cy, -1) - 128 * 256;
    int cr = bilinear(frame, g.planes[2], cx, cy, -1) - 128 * 256;
    pixel[0] = to_byte(luma + g.red * cr);
    pixel[plane] = to_byte(luma - g.green_cb * cb - g.green_cr * cr);
    pixel[2 * plane] = to_byte(luma + g.blue * cb);
}
