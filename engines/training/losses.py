"""The multi-metric loss: landmarks, vertices, parameters, volume, presence. All lengths in % of the face's size,
which is the square root of the area of the labelled points' box, in crop pixels.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F

import morphable
import sides
from data import AVATAR, MADE
from networks import POINTS_WEIGHT

LANDMARKS, VERTICES, DEPTH, SKIN = 2.6, 0.4, 1.0, 1.2  # depth counts within the vertices' loss
ROTATION, IDENTITY, EXPRESSION, TZ = 10.0, 1.0, 2.4, 0.2
AVATAR_WEIGHT, LIPS_WEIGHT = 4.0, 18.0  # of the coefficients that matter most; of those among them that come out worst
LIPS = ("mouthFunnel", "mouthPucker")
UNSCORED, UNSCORED_WEIGHT = ("cheekPuff", "cheekSquint", "noseSneer", "jawForward"), 0.2  # MediaPipe says 0 whatever a photo shows
OPENINGS, GAPS = 0.8, ((37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65))  # of eyes and mouth
VOLUME, EARLY, PRESENCE = 240.0, 120.0, 2.0  # EARLY: of the volume as the first hourglass alone tells it
POINTS, SHIPPED = 1.0, 1.5  # of the points that are seen, and of what ships: the mesh's, moved towards them
VERTICES_USED, TRIANGLES_USED = 240, 400
SPACING = 0.3  # cm, of points on the skin for a volume of 64
MOST = 36  # parts of a triangle's side between them
FINEST = math.lcm(*range(1, MOST + 1))  # of which all shares of corners are whole multiples


def surface_samples(model, spacing):
    """Points spread over the mesh, at most `spacing` cm apart, each once: vertices [S,3] and weights [S,3]."""
    triangles = model.triangles.cpu()
    corners = model.mean.cpu()[triangles]
    longest = torch.stack([(corners[:, i] - corners[:, i - 1]).norm(dim=1) for i in range(3)]).amax(0)
    steps = (longest / spacing).ceil().long().clamp(1, MOST)
    points = []
    for n in steps.unique().tolist():
        i, j = torch.meshgrid(torch.arange(n + 1), torch.arange(n + 1), indexing="ij")
        inside = i + j <= n
        shares = torch.stack([i[inside], j[inside], (n - i - j)[inside]], 1) * (FINEST // n)
        here = triangles[steps == n]
        points.append(torch.cat([here.repeat_interleave(len(shares), 0), shares.repeat(len(here), 1)], 1))
    points = torch.cat(points)
    # Triangles share corners and edges: where a corner has no share it is no matter which, and the order is none
    vertices, order = torch.where(points[:, 3:] > 0, points[:, :3], -1).sort(1)
    points = torch.cat([vertices, points[:, 3:].gather(1, order)], 1).unique(dim=0)
    return points[:, :3].clamp(min=0), (points[:, 3:].double() / FINEST).float()


def occupancy(points, resolution):
    """Front and back of a closed surface give every slice: points [3,N,S] (crop pixels, depth) -> bool [N,D,H,W].

    Voxel k is centred at depth 128 - (k + .5) 256 / r, column u at (u + .5) 256 / r - .5 pixels.
    """
    (x, y, depth), n, r = points, points.shape[1], resolution
    step = morphable.CROP / r
    column, row = (((place + 0.5) / step).floor_().int() for place in (x, y))
    inside = (column >= 0) & (column < r) & (row >= 0) & (row < r)
    cell = torch.where(inside, row.mul_(r).add_(column), r * r).long()
    front = x.new_full((n, r * r + 1), -1e4).scatter_reduce_(1, cell, depth, "amax")
    back = x.new_full((n, r * r + 1), 1e4).scatter_reduce_(1, cell, depth, "amin")
    front, back = front[:, :-1].reshape(n, 1, r, r), back[:, :-1].reshape(n, 1, r, r)
    centres = 128 - (torch.arange(r, device=points.device) + 0.5) * step
    centres = centres.view(1, r, 1, 1)
    return (centres <= front) & (centres >= back)


class CrossEntropy(torch.autograd.Function):
    """Mean binary cross-entropy of logits with bools, in few passes over the volume and without rounding away what is
    nearly right: binary_cross_entropy_with_logits takes a tenth of a training step for it."""

    @staticmethod
    def forward(context, logits, true):
        sign = torch.empty_like(logits).copy_(true).mul_(-2).add_(1)  # torch.where takes ten times as long
        wrong = sign * logits  # how far on the wrong side
        context.save_for_backward(wrong, sign)
        return F.softplus(wrong).mean(dtype=torch.float32)

    @staticmethod
    def backward(context, gradient):
        wrong, sign = context.saved_tensors
        return torch.sigmoid(wrong).mul_(sign).mul_(gradient / wrong.numel()), None


class Targets:
    """Everything that a batch is compared with, from rows and affines."""

    def __init__(self, model, fits, work, sides_weight=0.0, shares=MADE, others=1.0):
        """`work`: the folder in which fit.py wrote habits.npz. `sides_weight`: of what differs between left and right.
        `shares`: of what is made in the samples. `others`: the weight of expressions that are not in AVATAR."""
        habits = np.load(work / "habits.npz")
        tensor = lambda x: torch.from_numpy(np.ascontiguousarray(x)).float()
        self.model = model
        self.points, self.pose = tensor(fits.taught), tensor(fits.pose)
        self.identity, self.expression = tensor(fits.identity), tensor(fits.expression)
        self.habit = torch.from_numpy(fits.habit)
        idle = [name for name in MADE if not shares[name]]  # made, but not drawn
        drawn = self.expression[torch.from_numpy(np.tile(~np.isin(fits.source, idle), 2))]
        weight = 1 / (drawn.var(0) + 0.001)  # rare or small movements count as much as others
        for k, name in enumerate(model.expression_names):
            weight[k] *= LIPS_WEIGHT if name in LIPS else AVATAR_WEIGHT if name in AVATAR else others
        self.expression_weight = weight
        unscored = torch.tensor([name.startswith(UNSCORED) for name in model.expression_names])
        photo = torch.from_numpy(np.tile(~np.isin(fits.source, [*MADE]), 2))
        self.believed = torch.where(photo[:, None] & unscored, UNSCORED_WEIGHT, 1.0)
        self.sides_weight = sides_weight
        self.side_weight = 1 / (sides.difference(drawn, model.expression_names).var(0) + 0.002)
        self.weight = torch.where(torch.from_numpy(fits.hand), 1.0, 0.6)
        bins = model.yaw_weights(morphable.rotation(self.pose[:, 1:4]))
        self.bins = bins
        # landmark bases of both habits: mean [2,B,68*3], modes [2,K+E,B*68*3]
        self.means, self.modes = [], []
        for name in ("ibug", "video"):
            vertices, weights = torch.from_numpy(habits[f"{name}_vertices"]), tensor(habits[f"{name}_weights"])
            pick = lambda field: (field[..., vertices, :] * weights[..., None]).sum(-2)
            self.means.append((pick(model.mean) + tensor(habits[f"{name}_offsets"])).reshape(bins.shape[1], -1))
            self.modes.append(torch.cat([pick(model.identity), pick(model.expression)]).flatten(1))
        # the labels in i·bug's habit: the others moved by what the habits differ on the fitted face
        fitted = torch.cat([self.identity, self.expression], 1)
        other = torch.nonzero(self.habit)[:, 0]
        mine = morphable.project(self.landmarks3d(fitted[other], bins[other], self.habit[other]), self.pose[other])[..., :2]
        self.in_habit = self.points.clone()
        self.in_habit[other] += tensor(fits.landmarks)[other] - mine
        generator = torch.Generator().manual_seed(1)
        face = model.triangles[model.triangle_region == 0].unique()
        self.some = face[torch.randperm(len(face), generator=generator)[:VERTICES_USED]]
        self.some_modes = torch.cat([model.identity[:, self.some], model.expression[:, self.some]]).flatten(1)
        corners = model.mean[model.triangles]
        area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
        chosen = model.triangles[torch.multinomial(area, TRIANGLES_USED, generator=generator)]
        self.skin = model.mean[chosen]  # triangles all over the head, as many as the area asks for
        self.skin_modes = torch.cat([model.identity[:, chosen], model.expression[:, chosen]]).flatten(1)
        self.samples = {}

    def to(self, device):
        """Moves all of it, the face model too."""
        for name, value in vars(self).items():
            if isinstance(value, (torch.Tensor, torch.nn.Module)):
                setattr(self, name, value.to(device))
        self.means, self.modes = ([x.to(device) for x in both] for both in (self.means, self.modes))
        return self

    def landmarks3d(self, coefficients, bins, habit):
        """[N,K+E], [N,B], [N] -> [N,68,3] cm."""
        out = coefficients.new_zeros(len(coefficients), 68, 3)
        for h in (0, 1):
            rows = torch.nonzero(habit == h)[:, 0]
            if len(rows):
                shape = self.means[h] + (coefficients[rows] @ self.modes[h]).view(len(rows), bins.shape[1], -1)
                shape = (shape * bins[rows][..., None]).sum(1)
                out = out.index_add(0, rows, shape.view(-1, 68, 3))
        return out

    def some_vertices(self, coefficients):
        return self.model.mean[self.some] + (coefficients @ self.some_modes).view(len(coefficients), -1, 3)

    def skin_triangles(self, coefficients):
        """[N,K+E] -> corners [N,T,3,3], cm."""
        return self.skin + (coefficients @ self.skin_modes).view(len(coefficients), -1, 3, 3)

    def surface(self, row, affine, resolution):
        """Points of the solid's skin [3,N,S] in crop pixels, depth about the volume's centre; dense enough that no
        column of the volume is left out on a head that fills the crop."""
        if resolution not in self.samples:
            samples = surface_samples(self.model, SPACING * 64 / resolution)
            self.samples[resolution] = [x.to(row.device) for x in samples]
        vertices, weights = self.samples[resolution]
        placed = to_crop(morphable.project(self.model.vertices(self.identity[row], self.expression[row]),
                                           self.pose[row]), affine)
        table = placed.permute(1, 2, 0).flatten(1)  # one row a vertex: a tenth of the time of indexing face by face
        points = F.embedding_bag(vertices, table, per_sample_weights=weights, mode="sum")
        return points.T.contiguous().unflatten(0, (3, -1))


def to_crop(points, affine):
    """Picture pixels and depth [N,V,3] -> crop pixels and depth, by similarities [N,2,3]."""
    scale = affine[:, :, :2].det().sqrt()
    flat = points[..., :2] @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]
    return torch.cat([flat, points[..., 2:] * scale[:, None, None]], -1)


def crop_pose(pose, affine):
    """Picture pose [N,7] and similarities -> rotation matrix in the crop [N,3,3], f [N], t [N,3]."""
    scale = affine[:, :, :2].det().sqrt()
    c, s = affine[:, 0, 0] / scale, affine[:, 0, 1] / scale  # image turn: x' = c x + s y; y up in camera space
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    turn = torch.stack([c, -s, zero, s, c, zero, zero, zero, one], -1).view(-1, 3, 3)
    t = (affine[:, :, :2] @ pose[:, 4:6, None])[..., 0] + affine[:, :, 2]
    return turn @ morphable.rotation(pose[:, 1:4]), pose[:, 0] * scale, torch.cat([t, pose[:, 6:] * scale[:, None]], 1)


def seen(points):
    """The points that the PMN tells [N,136], in crop pixels [N,68,2]."""
    return points.unflatten(1, (-1, 2)) * (morphable.CROP / 2) + (morphable.CROP - 1) / 2


def shipped(placed, points, rotation):
    """The landmarks of the mesh [N,68,2], moved a part of the way to the points that the PMN tells, as `FaceModel::beside`
    does it: the less, the farther the head is turned away."""
    facing = rotation[:, 2, 2].clamp(min=0).square()
    return placed + POINTS_WEIGHT * facing[:, None, None] * (seen(points) - placed)


@torch.no_grad()
def solid(targets, row, affine, presence, resolution):
    """The true volume, bool [N,r,r,r]: empty where there is no face."""
    true = occupancy(targets.surface(row, affine, resolution), resolution)
    return true & (presence > 0.5).view(-1, 1, 1, 1)


def skin_distance(targets, coefficients, pose, fitted, true_rotation, true_f, true_t):
    """How far the predicted skin lies from the true one along the true normals [N,T], crop pixels, at places spread evenly
    over the head, its back included: to first order the voxels in which the two solids differ. t_z follows from f and R,
    as the program computes it (`FaceModel::centred`)."""
    corners = targets.skin_triangles(fitted)
    true = morphable.place(corners.mean(2), true_rotation, true_f, true_t)
    normal = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    normal = morphable.place(F.normalize(normal, dim=-1), true_rotation, torch.ones_like(true_f), torch.zeros_like(true_t))
    ours = morphable.project(targets.skin_triangles(coefficients).mean(2), targets.model.centred(pose))
    return ((ours - true) * normal).sum(-1).abs()


def losses(targets, outputs, row, affine, presence, volumes=None):
    """Named losses, already weighted; outputs = pose, identity, expression, presence logits, points. Negatives teach presence
    (and an empty volume) only. `volumes`: logits [N,r,r,r] of the head, and of the first hourglass alone."""
    pose, identity, expression, logits, points = (x.float() for x in outputs)
    result = {"presence": PRESENCE * F.binary_cross_entropy_with_logits(logits[:, 0], presence)}
    real = torch.nonzero(presence > 0.5)[:, 0]
    r, a = row[real], affine[real]
    pose, identity, expression = pose[real], identity[real], expression[real]
    weight = targets.weight[r]
    weight = weight / weight.sum()
    mean = lambda x: (x.flatten(1).mean(1) * weight).sum()

    label = to_crop(F.pad(targets.points[r], (0, 1)), a)[..., :2]
    size = (label.amax(1) - label.amin(1)).prod(1).sqrt()
    percent = (100 / size)[:, None]
    coefficients = torch.cat([identity, expression], 1)
    placed = morphable.project(targets.landmarks3d(coefficients, targets.bins[r], targets.habit[r]), pose)
    result["landmarks"] = LANDMARKS * mean((placed[..., :2] - label).norm(dim=-1) * percent)

    if points.shape[1]:  # [N,136], in the habit that ships
        there = to_crop(F.pad(targets.in_habit[r], (0, 1)), a)[..., :2]
        result["points"] = POINTS * mean((seen(points[real]) - there).norm(dim=-1) * percent)
        ibug = targets.landmarks3d(coefficients, targets.bins[r], torch.zeros_like(targets.habit[r]))
        ours = shipped(morphable.project(ibug, pose)[..., :2], points[real], morphable.rotation(pose[:, 1:4]))
        result["shipped"] = SHIPPED * mean((ours - there).norm(dim=-1) * percent)

    upper, lower = zip(*GAPS)
    gap = lambda points: points[:, upper, :2] - points[:, lower, :2]
    result["openings"] = OPENINGS * mean((gap(placed) - gap(label)).norm(dim=-1) * percent)

    true_rotation, true_f, true_t = crop_pose(targets.pose[r], a)
    fitted = torch.cat([targets.identity[r], targets.expression[r]], 1)
    wanted = morphable.place(targets.some_vertices(fitted), true_rotation, true_f, true_t)
    off = (morphable.project(targets.some_vertices(coefficients), pose) - wanted) * percent[..., None]
    deep = off[..., 2] - off[..., 2].mean(1, keepdim=True)
    result["vertices"] = VERTICES * mean(off[..., :2].abs().sum(-1) + DEPTH * deep.abs())
    result["skin"] = SKIN * mean(skin_distance(targets, coefficients, pose, fitted, true_rotation, true_f, true_t) * percent)
    result["tz"] = TZ * mean((pose[:, 6:] - true_t[:, 2:]).abs() * percent)
    apart = (morphable.rotation(pose[:, 1:4]) - true_rotation).square().sum((1, 2))  # 2 x the angle's square, nearly
    result["rotation"] = ROTATION * mean((apart + 1e-6).sqrt()[:, None])
    result["identity"] = IDENTITY * mean((identity - targets.identity[r]).square())
    result["expression"] = EXPRESSION * mean((expression - targets.expression[r]).square() * targets.expression_weight * targets.believed[r])
    if targets.sides_weight:
        apart = sides.difference(expression - targets.expression[r], targets.model.expression_names)
        result["sides"] = targets.sides_weight * mean(apart.square() * targets.side_weight)
    if volumes is not None:
        true = solid(targets, row, affine, presence, volumes[0].shape[-1])
        for name, weight, logits in zip(("volume", "early"), (VOLUME, EARLY), volumes):
            result[name] = weight * CrossEntropy.apply(logits, true)
    return result
