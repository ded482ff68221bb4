"""Measures a checkpoint on the validation pictures (people that training never saw).

Errors are mean distances of the 68 points in % of sqrt(area of the labelled points' box), inner 51 (17-67) and all.
"raw" compares as is; "free" takes each point's mean offset off first (in a frame turned upright by the eye line and
scaled by the box), learnt on one half of the people and applied to the other, because people and networks place the
points by different habits. Predictions are always in i·bug's habit, which is what the program ships.

    python evaluate.py --checkpoint runs/long/last.pt --out measured.json
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

import losses
import morphable
import sides
from data import AVATAR, Samples, argument_parser, crop_affine, damage, load, warp
from fit import expression_centres
from networks import fast, load_checkpoint, load_heads, load_trained

BATCH = 32


@torch.no_grad()
def predict(model, targets, crops):
    """crops u8 [n,256,256,3] -> dict of numpy arrays in crop pixels: landmarks [n,68,2] (i·bug), pose [n,7], identity,
    expression, presence [n] (probability), features kept as a list of batches."""
    parts, features, device = [], [], targets.pose.device
    for start in range(0, len(crops), BATCH):
        image = torch.from_numpy(np.stack(crops[start:start + BATCH])).permute(0, 3, 1, 2).to(device)
        with fast(device.type):
            maps, pose, identity, expression, presence, points = model(image)
        pose, identity, expression = pose.float(), identity.float(), expression.float()
        rotation = morphable.rotation(pose[:, 1:4])
        bins = targets.model.yaw_weights(rotation)
        shape = targets.landmarks3d(torch.cat([identity, expression], 1), bins, torch.zeros(len(pose), dtype=torch.long, device=device))
        placed = morphable.project(shape, pose)[..., :2]
        if points.shape[1]:
            placed = losses.shipped(placed, points, rotation)
        parts.append((placed, pose, identity, expression, torch.sigmoid(presence.float())[:, 0]))
        features.append(maps)
    names = ["landmarks", "pose", "identity", "expression", "presence"]
    result = {n: torch.cat(p).cpu().numpy() for n, p in zip(names, zip(*parts))}
    return {**result, "features": features}


def picture_rotation(predicted, affines):
    """Predicted rotations [n,3,3], turned back from the crop into the picture."""
    scale = np.sqrt(np.linalg.det(affines[:, :, :2]))
    c, s = affines[:, 0, 0] / scale, affines[:, 0, 1] / scale
    back = np.zeros((len(c), 3, 3))
    back[:, 0, 0] = back[:, 1, 1] = c
    back[:, 0, 1], back[:, 1, 0], back[:, 2, 2] = s, -s, 1
    return back @ morphable.rotation(torch.from_numpy(predicted["pose"][:, 1:4]).double()).numpy()


def to_picture(predicted, affines):
    """Landmarks in picture pixels [n,68,2] and how the head leans there [n] in degrees."""
    inverse = np.linalg.inv(affines[:, :, :2])
    points = (predicted["landmarks"] - affines[:, None, :, 2]) @ inverse.transpose(0, 2, 1)
    return points, morphable.upright(torch.from_numpy(picture_rotation(predicted, affines))).numpy()


def rotation_between(a, b):
    """Angle in degrees between rotations [n,3,3]."""
    cosine = ((a * b).sum((1, 2)) - 1) / 2
    return np.degrees(np.arccos(cosine.clamp(-1, 1).numpy()))


def upright_frame(points, label):
    """Points in the label's own frame: turned upright by its eye line, scaled by sqrt(box area) to %."""
    eyes = label[:, 42:48].mean(1) - label[:, 36:42].mean(1)
    angle = np.arctan2(eyes[:, 1], eyes[:, 0])
    c, s = np.cos(angle), np.sin(angle)
    size = np.sqrt((label.max(1) - label.min(1)).prod(1))
    p = (points - label.mean(1, keepdims=True)) * (100 / size)[:, None, None]
    return np.stack([c[:, None] * p[..., 0] + s[:, None] * p[..., 1], -s[:, None] * p[..., 0] + c[:, None] * p[..., 1]], -1)


def distances(predicted, label):
    """[n]: mean distance of the 68 points in %."""
    return np.linalg.norm(upright_frame(predicted, label) - upright_frame(label, label), axis=-1).mean(1)


def half_of(person):
    return hashlib.md5(str(person).encode()).digest()[0] & 1


def raw_and_free(predicted, label, people):
    """[raw inner, raw all, free inner, free all] in %."""
    off = upright_frame(predicted, label) - upright_frame(label, label)
    half = np.array([half_of(p) for p in people])
    free = off.copy()
    for h in (0, 1):
        if (half == h).any() and (half != h).any():
            free[half == h] -= off[half != h].mean(0)
    raw, free = np.linalg.norm(off, axis=-1), np.linalg.norm(free, axis=-1)
    return [float(x) for x in (raw[:, 17:].mean(), raw.mean(), free[:, 17:].mean(), free.mean())]


def crop_all(pictures, rows, affines):
    return [warp(pictures[i], a) for i, a in zip(rows, affines)]


def two_passes(model, targets, pictures, rows, affines):
    """A first look through the given crops, a second through the crop of its own landmarks."""
    first = predict(model, targets, crop_all(pictures, rows, affines))
    points, leaning = to_picture(first, affines)
    again = np.stack([crop_affine(p, a) for p, a in zip(points, leaning)])
    second = predict(model, targets, crop_all(pictures, rows, again))
    return points, to_picture(second, again)[0], first, second, again


def true_affines(fits, rows):
    return np.stack([crop_affine(fits.points[i], fits.upright[i]) for i in rows])


def jittered_affines(fits, rows, seed=5):
    """What a detector's box gives: no roll, ±10 % in size and place."""
    random = np.random.default_rng(seed)
    return np.stack([crop_affine(fits.points[i], 0.0, np.exp(random.normal(0, 0.1)), random.normal(0, 0.07, 2))
                     for i in rows])


def box_affines(boxes, detector):
    """Detector boxes [n,4] (x, y, w, h) -> crops, as the manifest's [detectors.…] says."""
    longer = boxes[:, 2:].max(1)
    centre = boxes[:, :2] + boxes[:, 2:] / 2 + longer[:, None] * np.array(detector["centre"])
    scale = morphable.CROP / (detector["scale"] * longer)
    affines = np.zeros((len(boxes), 2, 3))
    affines[:, 0, 0] = affines[:, 1, 1] = scale
    affines[:, :, 2] = 127.5 - scale[:, None] * centre
    return affines


def teacher_scores(work, model, pictures):
    """MediaPipe's scores of the pictures in our order, in each of label.py's four views [4,n,E]; NaN where it found no face."""
    teacher = np.load(work / "teacher.npz")
    row = {p: k for k, p in enumerate(teacher["picture"])}
    views, names = teacher["views"][[row[p] for p in pictures]], teacher["names"]
    return np.stack([expression_centres(model, views[:, k], names) for k in range(views.shape[1])])


def beside_teacher(model, ours, views):
    """Correlations of AVATAR's expressions, ours [n,E] and those of `teacher_scores`: what with what, and the values. How far
    the teacher agrees with itself in the mirror says what can be had of the scores of one picture."""
    columns = [model.expression_names.index(n) for n in AVATAR]
    return {"ours with MediaPipe's scores": correlations(ours, views[0], columns),
            "ours with their mean over four views": correlations(ours, np.nanmean(views, 0), columns),
            "MediaPipe's in the mirror with those outside": correlations(views[1], views[0], columns)}


def correlations(a, b, columns):
    """Of these columns of a and b [n,E], over the rows that are whole in both."""
    both = np.isfinite(a + b).all(1)
    return [np.corrcoef(a[both, k], b[both, k])[0, 1] for k in columns]


def validate(model, targets, fits, pictures, rows):
    """A quick look while training: [raw inner, raw all, free inner, free all], crop from the true box, and from a
    jittered box with a second pass."""
    result = {}
    for name, here in (("video", rows[fits.source[rows] == "video"]), ("ibug", rows[fits.source[rows] != "video"])):
        label, people = fits.points[here], fits.person[here]
        affines = true_affines(fits, here)
        direct = to_picture(predict(model, targets, crop_all(pictures, here, affines)), affines)[0]
        second = two_passes(model, targets, pictures, here, jittered_affines(fits, here))[1]
        result[name] = [round(x, 2) for x in raw_and_free(direct, label, people)]
        result[name + "_2nd"] = [round(x, 2) for x in raw_and_free(second, label, people)]
    return result


@torch.no_grad()
def volume_mismatch(head, targets, rows, predicted, affines):
    """% of all voxels that differ (threshold .5), and intersection over union in %, at the head's resolution."""
    wrong = voxels = both = either = 0
    for k, features in enumerate(predicted["features"]):
        for i, feature in enumerate(features.float()):
            some = slice(k * BATCH + i, k * BATCH + i + 1)
            truth = losses.solid(targets, torch.from_numpy(rows[some]), torch.from_numpy(affines[some]).float(),
                                 torch.ones(1), head.resolution)
            ours = head(feature[None]) > 0
            wrong += (ours ^ truth).sum().item()
            voxels += truth.numel()
            both += (ours & truth).sum().item()
            either += (ours | truth).sum().item()
    return 100 * wrong / voxels, 100 * both / either


class Measure:
    """All measurements of one checkpoint; `error` collects what goes into the manifest."""

    def __init__(self, model, heads, targets, fits, pictures, measured):
        self.model, self.heads, self.targets, self.fits, self.pictures = model, heads, targets, fits, pictures
        self.measured = measured
        self.validation = np.flatnonzero((fits.split == "validation") & fits.hand[:fits.count])
        self.error = {}

    def look(self, rows, affines):
        return predict(self.model, self.targets, crop_all(self.pictures, rows, affines))

    def two_passes(self, rows, affines):
        return two_passes(self.model, self.targets, self.pictures, rows, affines)

    def volume(self, name, rows, predicted, affines):
        for head in self.heads:
            mismatch, overlap = volume_mismatch(head, self.targets, rows, predicted, affines)
            print(f"  volume {head.resolution} against the fit: {mismatch:.2f} % of voxels differ, overlap {overlap:.1f} %")
            self.error[f"{name}_volume_{head.resolution}_mismatch"] = round(mismatch, 2)

    def landmarks(self, name, rows):
        """Hand-labelled pictures, through crops of several origins."""
        fits = self.fits
        label, people = fits.points[rows], fits.person[rows]
        print(f"{name}: {len(rows)} pictures; raw inner, raw all, free inner, free all")
        affines = true_affines(fits, rows)
        direct = self.look(rows, affines)
        looks = {"true_box": to_picture(direct, affines)[0], "true_box_2nd": self.two_passes(rows, affines)[1]}
        looks["jittered_1st"], looks["jittered_2nd"] = self.two_passes(rows, jittered_affines(fits, rows))[:2]
        for look, points in looks.items():
            numbers = raw_and_free(points, label, people)
            print(f"  {look}: " + " ".join(f"{x:.2f}" for x in numbers))
            for kind, value in zip(("raw_inner", "raw_all", "free_inner", "free_all"), numbers):
                self.error[f"{name}_{look}_{kind}"] = round(value, 2)
        boxed = np.isfinite(fits.box[rows]).all(1)
        if boxed.any():
            boxes = box_affines(fits.box[rows[boxed]], self.measured["detectors"]["centerface"])
            numbers = raw_and_free(self.two_passes(rows[boxed], boxes)[1], label[boxed], people[boxed])
            print("  detector's box, second pass: " + " ".join(f"{x:.2f}" for x in numbers))
            self.error[f"{name}_detector_2nd_free_all"] = round(numbers[3], 2)
        yaw = np.abs(fits.pose[rows, 2])
        apart = distances(looks["true_box_2nd"], label)
        print("  raw all by yaw: " + ", ".join(f"{a}-{b}° {apart[m].mean():.2f} ({m.sum()})" for a, b in
                                               ((0, 15), (15, 30), (30, 45), (45, 90))
                                               for m in [(yaw >= a) & (yaw < b)] if m.any()))
        euler = morphable.angles(torch.from_numpy(picture_rotation(direct, affines))).numpy()
        print("  pitch, yaw, roll against the fit: "
              + " ".join(f"{x:.1f}" for x in np.abs(euler - fits.pose[rows, 1:4]).mean(0)))
        self.volume(name, rows, direct, affines)

    def rendered(self):
        """Heads of validation people that turn.py turned: exact pose and volume."""
        fits = self.fits
        rows = np.flatnonzero((fits.split == "validation") & (fits.source == "turned"))
        if not len(rows):
            return
        _, points, _, turned, again = self.two_passes(rows, jittered_affines(fits, rows))
        off = distances(points, fits.points[rows])
        matrix = torch.from_numpy(picture_rotation(turned, again))
        apart = rotation_between(matrix, morphable.rotation(torch.from_numpy(fits.pose[rows, 1:4]).double()))
        yaw = np.abs(fits.pose[rows, 2])
        for a, b in ((30, 60), (60, 90)):
            m = (yaw >= a) & (yaw < b)
            print(f"rendered heads, yaw {a}-{b}°, {m.sum()}: landmarks {off[m].mean():.2f}, "
                  f"rotation off by {apart[m].mean():.1f}° (median {np.median(apart[m]):.1f}°)")
            self.error[f"rendered_{a}_{b}_rotation_degrees"] = round(float(apart[m].mean()), 1)
        self.volume("rendered", rows, turned, again)

    def expression(self, work):
        """Correlation with MediaPipe's blendshape scores."""
        fits, model = self.fits, self.targets.model
        rows = np.flatnonzero((fits.split == "validation") & fits.found & (fits.source != "expressions"))
        ours = self.look(rows, true_affines(fits, rows))["expression"]
        correlation = beside_teacher(model, ours, teacher_scores(work, model, fits.picture[rows]))
        for what, values in correlation.items():
            print(f"{what}: " + ", ".join(f"{n} {v:.2f}" for n, v in zip(AVATAR, values)))
        self.error["expression_correlation_12"] = round(float(np.mean(next(iter(correlation.values())))), 2)

    def sides(self, work):
        """What differs between left and right, against MediaPipe's scores or what a face was made with."""
        names = self.targets.model.expression_names
        tell = sides.seen_by(self.model, self.pictures, self.fits)
        for name, both in sides.measure(tell, self.fits, self.targets.model, work).items():
            print(f"left and right, {name}: slope, correlation: " + ", ".join(
                f"{k} {slope:.2f} {r:.2f}" for k, (slope, r) in sides.brief(*both, names).items()))

    def identity(self):
        """How far one person's coefficients spread over frames, and how far people lie apart."""
        fits = self.fits
        rows = np.flatnonzero((fits.source == "video") & (fits.split == "validation"))
        identity = self.look(rows, true_affines(fits, rows))["identity"]
        groups = [identity[fits.person[rows] == p] for p in np.unique(fits.person[rows])]
        within = np.sqrt(np.mean([((g - g.mean(0)) ** 2).mean() for g in groups]))
        between = np.stack([g.mean(0) for g in groups]).std(0).mean()
        print(f"identity: spread within a person {within:.2f}, between people {between:.2f} (standard deviations)")
        self.error["identity_within"], self.error["identity_between"] = round(float(within), 2), round(float(between), 2)

    def presence(self):
        """Misses among damaged faces, false alarms among damaged crops without one."""
        random, plain = np.random.default_rng(3), lambda: np.zeros((256, 256, 3), np.uint8)
        fits, faces = self.fits, np.repeat(self.validation, 2)
        maker = Samples(self.pictures, fits, self.validation, np.ones(len(self.validation)))
        present = [damage(random, c, plain) for c in crop_all(self.pictures, faces, jittered_affines(fits, faces))]
        absent = [damage(random, maker.negative(random, i)[0], plain) for i in self.validation]
        yes, no = (predict(self.model, self.targets, c)["presence"] for c in (present, absent))
        for threshold in (0.2, 0.35, 0.5, 0.65, 0.8):
            print(f"presence at {threshold}: {100 * (yes < threshold).mean():.2f} % of {len(yes)} damaged faces missed, "
                  f"{100 * (no >= threshold).mean():.2f} % of {len(no)} crops without a face taken for one")
        shipped = self.measured["presence_threshold"]
        self.error["presence_missed"] = round(100 * float((yes < shipped).mean()), 2)
        self.error["presence_false"] = round(100 * float((no >= shipped).mean()), 2)


def main():
    here = Path(__file__).parent
    parser = argument_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--heads", type=Path, help="further volume heads, from volume_heads.py")
    parser.add_argument("--out", type=Path, default=here / "measured.json", help="read and written")
    options = parser.parse_args()

    face_model, fits, pictures = load(options)
    targets = losses.Targets(face_model, fits, options.work)
    model = load_trained(options.checkpoint)

    measured = json.loads(options.out.read_text())
    heads = [model.volume, *load_heads(options.heads)]
    measure = Measure(model, heads, targets, fits, pictures, measured)
    video = fits.source[measure.validation] == "video"
    measure.landmarks("video", measure.validation[video])
    measure.landmarks("hard", measure.validation[~video])
    measure.rendered()
    measure.expression(options.work)
    measure.sides(options.work)
    measure.identity()
    measure.presence()
    measured["error"][load_checkpoint(options.checkpoint)["variant"]] = measure.error
    options.out.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
