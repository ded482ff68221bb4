"""Makes turned heads: a fitted model, textured with its own photo, turned far to the side before another background.

Photos with hand labels stop at about 50 degrees of yaw; here the parameters are exact. (The idea is that of 300W-LP,
Zhu et al., CVPR 2016; the rendering is simpler: one mesh, one z-buffer.) Writes into --work: turned.bin (pictures, RGB
bytes, 320×320) and turned.npz (the fields of fits.npz).

    python turn.py --faces ../../../shared/faces --work work --count 1200
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

import losses
import morphable
from data import TURNED, Fits, Pictures

SIDE = TURNED  # pixels; the head is as large as in a crop, with room for jitter
YAW = (30.0, 88.0)  # degrees, aimed at
SOURCE_YAW = 25.0  # photos turned further hide too much
SMALLEST = 6.0  # pixels per cm in the photo


def rasterise(points, triangles, side):
    """Z-buffer: points [V,3] (pixels, depth towards the camera) -> triangle per pixel (-1: none), weights [side,side,3]."""
    corners = points[triangles]
    low = np.maximum(np.ceil(corners[..., :2].min(1)), 0).astype(int)
    high = np.minimum(np.floor(corners[..., :2].max(1)), side - 1).astype(int)
    spread = np.maximum(high - low + 1, 0)
    count = spread.prod(1)
    owner = np.repeat(np.arange(len(triangles)), count)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    x = low[owner, 0] + within % spread[owner, 0]
    y = low[owner, 1] + within // spread[owner, 0]
    a, b, c = (corners[owner, k] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    w1 = ((x - a[:, 0]) * (c[:, 1] - a[:, 1]) - (y - a[:, 1]) * (c[:, 0] - a[:, 0])) / area
    w2 = ((b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (b[:, 1] - a[:, 1]) * (x - a[:, 0])) / area
    weights = np.stack([1 - w1 - w2, w1, w2], 1)
    # counter-clockwise from outside is clockwise with y down: facing the camera means negative area
    hit = (weights >= -1e-6).all(1) & (area < -1e-9)
    depth = weights[:, 0] * a[:, 2] + w1 * b[:, 2] + w2 * c[:, 2]
    order = np.flatnonzero(hit)[np.argsort(depth[hit], kind="stable")]
    triangle = np.full((side, side), -1)
    chosen = np.zeros((side, side, 3), np.float32)
    triangle[y[order], x[order]] = owner[order]  # the nearest is written last
    chosen[y[order], x[order]] = weights[order]
    return triangle, chosen


def render(photo, source, turned, triangles, background, light):
    """The photo's head in its new place; source, turned [V,3]: the vertices in the photo and in the new picture."""
    triangle, weights = rasterise(turned, triangles, SIDE)
    where = np.einsum("yxj,yxjc->yxc", weights, source[triangles[triangle], :2]).astype(np.float32)
    head = cv2.remap(photo, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    corners = turned[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    shade = cv2.GaussianBlur((1 + normal @ light).astype(np.float32)[triangle], (0, 0), 3)
    head = (head * shade[..., None]).clip(0, 255)
    mask = cv2.GaussianBlur((triangle >= 0).astype(np.float32), (0, 0), 0.8)[..., None]
    return (head * mask + background * (1 - mask)).astype(np.uint8)


def new_pose(random, pose):
    """Turned further to the side to which the head looks already."""
    sign = np.sign(pose[2] + random.normal(0, 4))
    return np.array([11.7 * np.exp(random.normal(0, 0.05)), pose[1] + random.normal(0, 14), sign * random.uniform(*YAW),
                     random.normal(0, 8), 160, 160, 0], np.float32)


def main():
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, default=here / "../../../shared/faces")
    parser.add_argument("--work", type=Path, default=here / "work")
    parser.add_argument("--model", type=Path, default=here / "../face-model.safetensors")
    parser.add_argument("--count", type=int, default=1200)
    options = parser.parse_args()
    random = np.random.default_rng(7)
    cv2.setNumThreads(1)

    model = morphable.FaceModel(options.model)
    for old in ("turned.npz", "turned.bin"):
        (options.work / old).unlink(missing_ok=True)
    fits = Fits(options.work / "fits.npz", model)
    pictures = Pictures(options.faces, fits.picture, options.work / "pictures.bin")
    targets = losses.Targets(model, fits, dict(np.load(options.work / "habits.npz")))
    triangles = model.triangles.numpy()
    usable = np.flatnonzero((np.abs(fits.pose[:fits.count, 2]) < SOURCE_YAW) & (fits.pose[:fits.count, 0] > SMALLEST)
                            & (fits.source != "video") & (fits.source != "Face-Mask-Detection"))
    rows = random.choice(usable, options.count, replace=False)
    out = {k: [] for k in ("landmarks", "pose", "expression")}
    with open(options.work / "turned.bin", "wb") as file, torch.no_grad():
        for i in rows:
            identity = torch.from_numpy(fits.identity[i:i + 1])
            expression = torch.from_numpy(fits.expression[i:i + 1])
            vertices = model.vertices(identity, expression)
            pose = torch.from_numpy(new_pose(random, fits.pose[i]))[None]
            bins = model.yaw_weights(morphable.rotation(pose[:, 1:4]))
            shape = targets.landmarks3d(torch.cat([identity, expression], 1), bins, torch.zeros(1, dtype=torch.long))
            placed = morphable.project(shape, pose)[0, :, :2].numpy()
            pose[0, 4:6] += torch.from_numpy(160 - (placed.min(0) + placed.max(0)) / 2)
            pose[0, 6] = -morphable.project(model.volume_centre.expand(1, 1, 3), pose)[0, 0, 2]
            source = morphable.project(vertices, torch.from_numpy(fits.pose[i:i + 1]))[0].numpy()
            turned = morphable.project(vertices, pose)[0].numpy()
            # another picture upside down: no second upright face
            behind = cv2.resize(pictures[random.integers(fits.count)], (SIDE, SIDE))[::-1]
            light = random.normal(0, 0.25, 3) * [1, 1, 0.5]
            file.write(render(pictures[i], source, turned, triangles, behind.astype(np.float32), light).tobytes())
            out["landmarks"].append(morphable.project(shape, pose)[0, :, :2].numpy())
            out["pose"].append(pose[0].numpy())
            out["expression"].append(fits.expression[i])
    n = len(rows)
    landmarks = np.stack(out["landmarks"])
    np.savez(options.work / "turned.npz", picture=np.array([f"turned {i}" for i in rows]), split=fits.split[rows],
             source=np.array(["turned"] * n), hand=np.zeros(n, bool), habit=np.zeros(n, np.int64), points=landmarks,
             landmarks=landmarks, pose=np.stack(out["pose"]), identity=fits.identity[rows],
             expression=np.stack(out["expression"]), residual=np.zeros(n), box=np.full((n, 4), np.nan),
             found=np.zeros(n, bool), person=fits.person[rows])


if __name__ == "__main__":
    main()
