"""Fits the face model to every labelled picture: weak perspective, all pictures in one batch.

Each picture keeps the habit of its labels ("ibug" or "video"), which have landmark tables of their own; the tables'
3D offsets are fitted along with the faces and written to landmarks.json, from which face_model.py takes them.
MediaPipe's blendshape scores are the centre of the expression prior, so that eyelids and mouths mean something.
Pictures of one person share one identity.

Writes into --work: fits.npz (fields below, n pictures, pixels of the picture as stored)
    picture [n], split [n] ("train" or "validation", by person), source [n], hand [n] (labelled by hand), habit [n]
    points [n,68,2] the labels, taught [n,68,2] the labels with mended eyelids, landmarks [n,68,2] the fit in i·bug's habit, pose [n,7] (f in pixels per cm),
    identity [n,K], expression [n,E], residual [n] in % of sqrt(box area), box [n,4] CenterFace (NaN if none)

    python fit.py --faces ../../../shared/faces --face-model ../../../shared/face-model --work work
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch

import morphable
import sides
from face_model import landmark_table, load_source
from label import load_lists

STEPS = 260
ROUNDS = 3  # of fitting faces, then offsets
POINT_SIGMA = 0.8  # % of size
# What is wrong in labels is alike from point to point and from frame to frame of a video, so points weigh less against
# the prior of identity than if each were a measurement of its own, and at most INDEPENDENT pictures of a person count as
# such. With a prior of 1 and every picture independent, the people of the videos lay 9.8 mm from the mean face, where
# people drawn from the model's own distribution lie 5.6 mm from it.
IDENTITY_PRIOR, INDEPENDENT = 3.0, 4
EXPRESSION_SIGMA = 0.15  # about the teacher's scores, or about 0 where the teacher found no face
FIRM_SIGMA = {"eyeBlink": 0.15, "jawOpen": 0.08, "mouthFunnel": 0.02, "mouthPucker": 0.08}  # points alone say too little about these
# Of left minus right, where points say little: without it these differences of the labels are mostly chance.
DIFFERENCE_SIGMA = {"mouth": 0.05, "jaw": 0.05, "browDown": 0.05, "browOuterUp": 0.05}
# The teacher's scores are no coefficients: closed eyes score about 0.7, a wide open jaw about 0.8, open eyes still 0.1.
SCORE_TO_COEFFICIENT = {"eyeBlink": ((0.1, 0.2, 0.45, 0.65, 0.75), (0.05, 0.12, 0.45, 0.85, 1.0)),
                        "jawOpen": ((0.0, 0.8), (0.0, 1.0)), "mouthFunnel": ((0.0, 0.6), (0.0, 1.0))}
LIDS, LID_PAIRS = [37, 38, 40, 41, 43, 44, 46, 47], ((37, 41), (38, 40), (43, 47), (44, 46))
# Labels of the video frames leave closed eyes open (they were carried from frame to frame), and calibration blurs lids:
# there the teacher's score says how far the lids are apart, in % of size as i·bug's hand labels have it.
SCORE_TO_GAP = ((0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75), (6.3, 4.8, 3.9, 3.1, 2.2, 1.4, 0.7, 0.1))
VIDEO_GAP = 0.78  # of i·bug's
LID_TRUST = {"ibug": 1.0, "video": 0.5, "teacher": 0.5}
VALIDATION = 0.08  # of the people
# Of the ten people of `expressions` these validate: one who winks, sneers and pulls the mouth aside, one who moves jaw and
# brows on one side, one who does not.
PULLING = ("liveportrait_d3", "liveportrait_d12", "mead_W023")
WORST_RESIDUAL = 4.5  # % of size: fits beyond are dropped
HABITS = ["ibug", "video"]


def split_of(row):
    """People go to one side; a picture without a name is its own person. Only hand labels validate."""
    key = row["person"] or row["file"]
    if row["source"] == "expressions":
        return "validation" if key in PULLING else "train"
    share = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
    return "validation" if share < VALIDATION else "train"


def expression_centres(model, scores, names):
    """ARKit scores [n,52] -> [n,E] in our order."""
    column = {str(n): i for i, n in enumerate(names)}
    centres = np.zeros((len(scores), len(model.expression_names)), np.float32)
    for arkit, parts in json.loads(model.metadata["arkit52"]).items():
        for ours, _ in parts:
            if arkit in column:
                centres[:, model.expression_names.index(ours)] = scores[:, column[arkit]]
    return centres


def expression_prior(centres, found, names):
    """Centres [n,E] in coefficients instead of scores, and sigmas [E]."""
    sigmas = np.full(len(names), EXPRESSION_SIGMA, np.float32)
    for k, name in enumerate(names):
        for start, curve in SCORE_TO_COEFFICIENT.items():
            if name.startswith(start):
                centres[:, k] = np.interp(centres[:, k], *curve)
        for start, sigma in FIRM_SIGMA.items():
            if name.startswith(start):
                sigmas[k] = sigma
    # closed eyes also score as looking down and squinting, which move the lids too: the blink shall do it
    for side in ("Left", "Right"):
        open_eye = 1 - np.clip((centres[:, names.index(f"eyeBlink{side}")] - 0.4) / 0.4, 0, 1)
        for name in (f"eyeLookDown{side}", f"eyeSquint{side}"):
            centres[:, names.index(name)] *= open_eye
    return centres * found[:, None], sigmas


def mend_lids(points, scores, factor):
    """Sets the lids of points [n,68,2] as far apart as the blink scores [n,2] (left, right) say, about their middle."""
    mended = points.copy()
    eyes = points[:, 42:48].mean(1) - points[:, 36:42].mean(1)
    down = np.stack([-eyes[:, 1], eyes[:, 0]], 1) / np.linalg.norm(eyes, axis=1, keepdims=True)
    size = np.sqrt((points.max(1) - points.min(1)).prod(1)) / 100
    for upper, lower in LID_PAIRS:  # 43 and up are the subject's left eye
        gap = np.interp(scores[:, 0 if upper > 42 else 1], *SCORE_TO_GAP) * factor * size
        change = ((gap - ((points[:, lower] - points[:, upper]) * down).sum(1)) / 2)[:, None] * down
        mended[:, upper] -= change
        mended[:, lower] += change
    return mended


class Habit:
    """Landmark tables of one way of placing the 68 points, applied to all modes: a basis [1+K+E, B*68*3]."""

    def __init__(self, model, table, offsets):
        self.vertices, self.weights = torch.from_numpy(table[0]), torch.from_numpy(table[1]).float()
        self.table_offsets = torch.from_numpy(table[2]).float()
        self.offsets = offsets
        pick = lambda field: (field[..., self.vertices, :] * self.weights[..., None]).sum(-2)
        self.mean = pick(model.mean) + self.table_offsets
        self.modes = torch.cat([pick(model.identity), pick(model.expression)])
        self.shape = self.mean.shape

    def landmarks(self, coefficients, bins):
        """[n,K+E], yaw weights [n,B] -> [n,68,3] cm."""
        n = len(coefficients)
        moved = torch.zeros(n, 68 * 3)
        for b in range(bins.shape[1]):  # few pictures count in a bin: cheaper than all bins for all
            rows = torch.nonzero(bins[:, b] > 0)[:, 0]
            if len(rows):
                here = (self.mean + self.offsets)[b].reshape(-1) + coefficients[rows] @ self.modes[:, b].reshape(-1, 204)
                moved = moved.index_add(0, rows, here * bins[rows, b, None])
        return moved.reshape(n, 68, 3)


def project(points, pose):
    return morphable.project(points, pose)[..., :2]


def initial_pose(points, size):
    """Upright by the eye line, yaw by where the nose lies between the temples."""
    eyes = points[:, 42:48].mean(1) - points[:, 36:42].mean(1)
    roll = torch.atan2(eyes[:, 1], eyes[:, 0])
    c, s = torch.cos(roll), torch.sin(roll)
    x = c[:, None] * points[..., 0] + s[:, None] * points[..., 1]
    middle, half = (x[:, 0] + x[:, 16]) / 2, (x[:, 16] - x[:, 0]).abs() / 2
    lean = ((x[:, 30] - middle) / half.clamp(min=1)).clamp(-0.9, 0.9)
    pose = torch.zeros(len(points), 7)
    pose[:, 0] = size / 14.0
    pose[:, 2] = -45 * lean
    pose[:, 3] = torch.rad2deg(roll)
    turned = torch.tensor([0.0, 0.0, 9.0]).expand(len(points), 1, 3)
    pose[:, 4:6] = points.mean(1) - project(turned, pose)[:, 0]
    return pose


def differences(names):
    """Columns of the left and of the right, and sigmas, of DIFFERENCE_SIGMA."""
    chosen = [(left, right, DIFFERENCE_SIGMA[name]) for name, left, right in sides.sides(names) if name in DIFFERENCE_SIGMA]
    left, right, sigma = zip(*chosen)
    return list(left), list(right), torch.tensor(sigma)


def fit(model, habits, which, points, trust, centres, sigmas, person, start=None, steps=STEPS):
    """Adam on all pictures at once. Returns pose [n,7], identity [people,K], expression [n,E], projected points."""
    size = (points.amax(1) - points.amin(1)).prod(1).sqrt()
    if start is None:
        pose = initial_pose(points, size)
        identity = torch.zeros(int(person.max()) + 1, len(model.identity))
        expression = centres.clone()
    else:
        pose, identity, expression = (x.clone() for x in start)
    firmness = IDENTITY_PRIOR * (torch.bincount(person) / INDEPENDENT).clamp(min=1)
    scale = torch.stack([size * 0 + 0.1, *[size * 0 + 10] * 3, size * 0.05, size * 0.05], 1)
    zero = torch.cat([pose[:, :1].log(), pose[:, 1:6]], 1)
    parameters = [torch.zeros_like(zero), identity, expression]
    for p in parameters:
        p.requires_grad_()
    optimiser = torch.optim.Adam([{"params": parameters[:1], "lr": 0.15}, {"params": parameters[1:2], "lr": 0.06},
                                  {"params": parameters[2:], "lr": 0.03}], betas=(0.85, 0.98))

    left, right, apart_sigma = differences(model.expression_names)
    apart = lambda values: values[:, left] - values[:, right]

    def posed():
        z = zero + parameters[0] * scale
        return torch.cat([z[:, :1].exp(), z[:, 1:], z[:, :1] * 0], 1)

    def bounded():
        """Clamped to 0..1 with the gradient let through: PyTorch's clamp stops it on the bounds, where many start."""
        return expression + (expression.clamp(0, 1) - expression).detach()

    def predict(pose):
        bins = model.yaw_weights(morphable.rotation(pose[:, 1:4]))
        coefficients = torch.cat([identity[person], bounded()], 1)
        out = torch.zeros(len(points), 68, 2)
        for h, habit in enumerate(habits):
            rows = torch.nonzero(which == h)[:, 0]
            out = out.index_add(0, rows, project(habit.landmarks(coefficients[rows], bins[rows]), pose[rows]))
        return out

    for step in range(steps):
        for group, rate in zip(optimiser.param_groups, (0.15, 0.06, 0.03)):
            group["lr"] = rate * min(1.0, 2.2 * (1 - step / steps))
        off = (predict(posed()) - points).norm(dim=-1) / size[:, None] * (100 / POINT_SIGMA)
        data = (trust * 2 * ((1 + off**2 / 2).sqrt() - 1)).sum() * 2  # Charbonnier: quadratic near 0, linear far out
        prior = (firmness[:, None] * identity**2).sum() + (((expression - centres) / sigmas) ** 2).sum() \
            + ((apart(expression - centres) / apart_sigma) ** 2).sum()
        outside = 100 * ((expression - expression.clamp(0, 1)) ** 2).sum()
        optimiser.zero_grad()
        (data + prior + outside).backward()
        optimiser.step()
    with torch.no_grad():
        pose = posed()
        return pose, identity.detach(), expression.detach().clamp(0, 1), predict(pose)


def refit_offsets(habit, model, points, predicted, pose, ridge=30.0):
    """Least squares for the 3D offset of each landmark in each yaw bin, left and right tied together; changes `habit`."""
    matrix = morphable.rotation(pose[:, 1:4])
    bins = model.yaw_weights(matrix)
    size = (points.amax(1) - points.amin(1)).prod(1).sqrt()
    camera = matrix[:, :2] * torch.tensor([1.0, -1.0])[None, :, None] * (pose[:, 0] / size * 14)[:, None, None]
    residual = (points - predicted) / size[:, None, None] * 14  # about cm
    trusted = (residual.norm(dim=-1).mean(1) < 0.6).float()
    b = bins.shape[1]
    design = (bins[:, :, None, None] * camera[:, None]).permute(0, 2, 1, 3).reshape(len(points), 2, b * 3)
    design = design * trusted[:, None, None]
    normal = torch.einsum("nip,niq->pq", design, design) + ridge * torch.eye(b * 3)
    right = torch.einsum("nip,nli->pl", design, residual)
    step = torch.linalg.solve(normal, right).reshape(b, 3, 68).permute(0, 2, 1)
    mirrored = step.flip(0)[:, morphable.MIRROR68.tolist()] * torch.tensor([-1.0, 1, 1])
    habit.offsets = habit.offsets + (step + mirrored) / 2


def main():
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, default=here / "../../../shared/faces")
    parser.add_argument("--face-model", type=Path, default=here / "../../../shared/face-model")
    parser.add_argument("--model", type=Path, default=here / "../face-model.safetensors")
    parser.add_argument("--landmarks", type=Path, default=here / "landmarks.json", help="offsets, written here")
    parser.add_argument("--work", type=Path, default=here / "work")
    options = parser.parse_args()
    torch.set_num_threads(2)

    model = morphable.FaceModel(options.model)
    rows = load_lists(options.faces)
    teacher = dict(np.load(options.work / "teacher.npz"))
    hand = np.array([r["points"] is not None for r in rows])
    used = np.flatnonzero(hand | teacher["trust"])
    points = np.array([rows[i]["points"] if hand[i] else teacher["points"][i] for i in used], np.float32)
    source = np.array([rows[i]["source"] for i in used])
    which = torch.from_numpy((source == "video").astype(np.int64))
    names = [r["person"] or r["file"] for r in (rows[i] for i in used)]
    person = torch.from_numpy(np.unique(names, return_inverse=True)[1])
    found = teacher["found"][used]
    centres = expression_centres(model, teacher["scores"], teacher["names"])[used]
    centres, sigmas = (torch.from_numpy(x) for x in expression_prior(centres, found, model.expression_names))
    trust = torch.ones(len(used), 68)
    kind = np.where(source == "video", "video", np.where(hand[used], "ibug", "teacher"))
    trust[:, LIDS] = torch.tensor([LID_TRUST[k] for k in kind])[:, None]
    column = [list(teacher["names"]).index(n) for n in ("eyeBlinkLeft", "eyeBlinkRight")]
    mended = mend_lids(points, teacher["scores"][used][:, column], np.where(source == "video", VIDEO_GAP, 1))
    taught = np.where((found & (kind != "ibug"))[:, None, None], mended, points).astype(np.float32)

    source_model = load_source(options.face_model)
    tables = json.loads((options.face_model / "landmarks68-fitted.json").read_text())
    skin = model.triangles[model.triangle_region <= 2].numpy()
    bins = len(tables["yaw_bins_deg"])
    habits = [Habit(model, landmark_table(tables[h], source_model["mean"], model.mean.numpy(), skin),
                    torch.zeros(bins, 68, 3)) for h in HABITS]
    target = torch.from_numpy(taught)
    size = (target.amax(1) - target.amin(1)).prod(1).sqrt()
    start = None
    for turn in range(ROUNDS):
        pose, identity, expression, predicted = fit(model, habits, which, target, trust, centres, sigmas, person, start,
                                                    STEPS if start is None else STEPS // 2)
        off = 100 * (predicted - target).norm(dim=-1) / size[:, None]
        face = model.triangles[model.triangle_region == 0].unique()
        apart = 10 * torch.tensordot(identity, model.identity[:, face], 1).norm(dim=-1).mean(1)[person]
        print(f"round {turn}:", ", ".join(
            f"{s} {off[m][:, 17:].mean():.2f}/{off[m].mean():.2f}" for s in ["video", "AFW (300-W)", "HELEN (300-W)"]
            for m in [torch.from_numpy(source == s)]), f"teacher {off[~torch.from_numpy(hand[used])].mean():.2f}",
            "mm from the mean face:", ", ".join(
                f"{s} {apart[torch.from_numpy(source == s)].mean():.1f}" for s in np.unique(source)), flush=True)
        if turn < ROUNDS - 1:
            for h, habit in enumerate(habits):
                m = which == h
                refit_offsets(habit, model, target[m], predicted[m], pose[m])
        start = pose, identity, expression

    residual = off.mean(1).numpy()
    good = residual < WORST_RESIDUAL
    print(f"kept {good.sum()} of {len(good)} fits")
    bins68 = model.yaw_weights(morphable.rotation(pose[:, 1:4]))
    landmarks = project(habits[0].landmarks(torch.cat([identity[person], expression], 1), bins68), pose)
    pose = model.centred(pose)
    options.landmarks.write_text(json.dumps({n: h.offsets.numpy().round(3).tolist() for n, h in zip(HABITS, habits)}))
    np.savez(options.work / "habits.npz", **{
        f"{n}_{k}": v for n, h in zip(HABITS, habits)
        for k, v in (("vertices", h.vertices.numpy()), ("weights", h.weights.numpy()),
                     ("offsets", (h.table_offsets + h.offsets).numpy()))})
    boxes = np.array([rows[i]["box"] or [np.nan] * 4 for i in used], np.float32)
    np.savez(options.work / "fits.npz", **{k: np.asarray(v)[good] for k, v in {
        "picture": [rows[i]["file"] for i in used], "split": [split_of(rows[i]) for i in used], "source": source,
        "hand": hand[used], "habit": which.numpy(), "points": points, "taught": taught, "landmarks": landmarks.numpy(),
        "pose": pose.numpy(), "identity": identity[person].numpy(), "expression": expression.numpy(),
        "residual": residual, "box": boxes, "found": found, "person": names}.items()})


if __name__ == "__main__":
    main()
