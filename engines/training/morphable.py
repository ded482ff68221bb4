"""The face model in PyTorch, and the conventions that the program shares (docs/conventions.md).

Units: centimetres in model space (x to the subject's left, y up, z out of the face); pixels of the picture or crop
(x right, y down, the centre of the first pixel is (0, 0)).
"""

import json
import math

import numpy as np
import torch
from safetensors import safe_open

CROP = 256  # pixels
CROP_SCALE = 1.45  # side of the crop in longer sides of the landmark box
CROP_RAISE = 0.06  # the centre lies this much above the box's centre, in the same unit
MIRROR68 = np.array([*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47,
                     46, 39, 38, 37, 36, 41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60,
                     67, 66, 65])


def rotation(angles):
    """[N,3] pitch, yaw, roll in degrees -> [N,3,3]: R = Rx Ry Rz as 300W-LP composes it (face3d angle2matrix_3ddfa)."""
    (cx, cy, cz), (sx, sy, sz) = (f(angles * (math.pi / 180)).unbind(-1) for f in (torch.cos, torch.sin))
    rows = [cy * cz, cy * sz, -sy,
            sx * sy * cz - cx * sz, sx * sy * sz + cx * cz, sx * cy,
            cx * sy * cz + sx * sz, cx * sy * sz - sx * cz, cx * cy]
    return torch.stack(rows, -1).reshape(*angles.shape[:-1], 3, 3)


def angles(matrix):
    """[N,3,3] -> [N,3] pitch, yaw, roll in degrees: the inverse of `rotation`, yaw within ±90."""
    yaw = torch.asin((-matrix[..., 0, 2]).clamp(-1, 1))
    pitch = torch.atan2(matrix[..., 1, 2], matrix[..., 2, 2])
    roll = torch.atan2(matrix[..., 0, 1], matrix[..., 0, 0])
    return torch.stack([pitch, yaw, roll], -1) * (180 / math.pi)


def upright(matrix):
    """[N,3,3] -> [N], degrees: how far the head's upward axis leans in the image, clockwise as seen. Well defined at every
    yaw, where pitch and roll of a profile are not; crops are turned by it."""
    return torch.atan2(matrix[..., 0, 1], matrix[..., 1, 1]) * (180 / math.pi)


def place(points, matrix, f, t):
    """Model points [N,V,3] under rotation matrices [N,3,3], f [N], t [N,3] -> [N,V,3]: pixel x, pixel y, depth.

    Depth grows towards the camera; pixel_y = -f (R S)_y + t_y.
    """
    turned = points @ matrix.transpose(1, 2) * f[:, None, None]
    return turned * turned.new_tensor([1, -1, 1]) + t[:, None]


def project(points, pose):
    """`place` under pose [N,7] = f, pitch, yaw, roll, tx, ty, tz."""
    return place(points, rotation(pose[:, 1:4]), pose[:, 0], pose[:, 4:7])


class FaceModel(torch.nn.Module):
    """engines/face-model.safetensors as buffers. `habit` may replace the landmark tables by those of other labellers."""

    def __init__(self, path):
        super().__init__()
        with safe_open(path, "pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}
            self.metadata = file.metadata()
        for kind in ("identity", "expression"):
            tensors[kind] = tensors[kind].float() * tensors[f"{kind}_scale"][:, None, None]
        tensors["triangles"] = torch.from_numpy(tensors["triangles"].numpy().astype(np.int64))
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.long() if name.endswith(("vertices", "mirror")) else tensor)
        self.register_buffer("identity_mirror", torch.tensor(json.loads(self.metadata["identity_mirror"])).float())
        self.register_buffer("expression_mirror", torch.tensor(json.loads(self.metadata["expression_mirror"])))
        self.expression_names = json.loads(self.metadata["expression_names"])

    def vertices(self, identity, expression, which=slice(None)):
        """[N,K], [N,E] -> [N,V,3] cm; `which` selects vertices."""
        return (self.mean[which] + torch.tensordot(identity, self.identity[:, which], 1)
                + torch.tensordot(expression, self.expression[:, which], 1))

    def centred(self, pose):
        """Pose [N,7] with the t_z that follows from R and f: the middle of the face's volume lies at depth 0."""
        middle = rotation(pose[:, 1:4]) @ self.volume_centre
        return torch.cat([pose[:, :6], -pose[:, :1] * middle[:, 2:]], 1)

    def yaw_weights(self, matrix):
        """[N,3,3] -> [N,B]: how much each yaw bin of the landmark tables counts (linear between the two nearest)."""
        bins = self.landmark_yaw_bins
        turned = torch.rad2deg(torch.asin(matrix[:, 0, 2].clamp(-1, 1))).clamp(bins[0], bins[-1])
        return (1 - (turned[:, None] - bins).abs() / (bins[1] - bins[0])).clamp(min=0)

    def basis68(self):
        """The landmark tables applied once: mean [B,68,3], identity [K,B,68,3], expression [E,B,68,3]."""
        pick = lambda field: (field[..., self.landmark_vertices, :] * self.landmark_weights[..., None]).sum(-2)
        return pick(self.mean) + self.landmark_offsets, pick(self.identity), pick(self.expression)
