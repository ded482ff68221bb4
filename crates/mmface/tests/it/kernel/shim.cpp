// crop.cu as plain C++: the few words of CUDA that it uses, and a loop where a GPU has threads.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#define __global__
#define __device__
struct Dim { unsigned x, y, z; };
static Dim blockIdx, threadIdx;
static const Dim blockDim = {1, 1, 1};

#include "crop.cu"

static void take(void* to, size_t bytes) {
    if (std::fread(to, 1, bytes, stdin) != bytes) std::exit(1);
}

// stdin: faces, bytes of the frame (u32 each), geometry, maps, frame. stdout: the crops.
int main() {
    unsigned faces, length;
    take(&faces, 4);
    take(&length, 4);
    Geometry geometry;
    take(&geometry, sizeof geometry);
    std::vector<Map> maps(faces);
    take(maps.data(), faces * sizeof(Map));
    std::vector<unsigned char> frame(length), out(faces * 3 * CROP * CROP);
    take(frame.data(), length);
    for (blockIdx.z = 0; blockIdx.z < faces; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < CROP; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < CROP; blockIdx.x++) crop(frame.data(), &geometry, maps.data(), out.data());
    return std::fwrite(out.data(), 1, out.size(), stdout) == out.size() ? 0 : 1;
}
