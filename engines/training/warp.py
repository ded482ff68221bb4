"""Changes photographs' own faces: half of them become one-sided (winks, crooked smiles, one brow, mouth and jaw aside), the others
show each expression as often as another.

The fitted mesh says where each place of the skin goes when its expression changes (sides.py draws the change); the photo is
warped so, and smoothly around the face, so that everything but the expression stays a photograph: hair, glasses, light. What a
warp cannot show is left out (eyes that open) or painted (what lips part over: dark, or teeth); an eye that shuts takes its lid
from another photo where that eye is shut, laid on by the mesh and blended in. Writes into --work: warped.bin (pictures, RGB bytes,
320×320) and warped.npz (the fields of fits.npz). A run that was cut short goes on.

    python warp.py --faces ../../../shared/faces --work work
"""

import hashlib
from multiprocessing import Pool

import cv2
import numpy as np
import torch

import losses
import morphable
import sides
from data import TURNED, Making, argument_parser, crop_affine, load, warp
from turn import MOUTH, drawn_to_labels, rasterise

COUNT = 6144
POSED = 0.5  # of the pictures show what `sides.posed` draws
YAW, PITCH = 35.0, 30.0  # degrees; photos turned further hide one side
SMALLEST = 4.0  # pixels per cm in the photo
WORST = 3.0  # residual of the fit, %
OPEN = 0.35  # an eye that blinks more is shut already: no wink
FEW = 0.06  # of the pictures are of the ten people of `expressions`
SHUT, LENDERS = 0.6, 8  # blink of an eye that may be lent; so many are drawn, of which the one turned most alike lends
AROUND = 0.7  # cm around what a blink moves: so much is lent with it
REACH = 24.0  # pixels of the new picture: so far around the face does the warp die away


def warp_field(before, after, triangles, lips):
    """before, after [V,3] (pixels; depth): where in the photo each pixel of the new picture comes from, [S,S,2], and which
    pixels show what lay hidden behind the lips [S,S], 0…1. `lips` [T]: triangles behind the lips."""
    triangle, weights = rasterise(after, triangles, TURNED)
    inside = triangle >= 0
    y, x = np.mgrid[:TURNED, :TURNED].astype(np.float32)
    place = np.stack([x, y], -1)
    comes = np.einsum("yxj,yxjc->yxc", weights, before[triangles[triangle], :2]).astype(np.float32)
    shift = np.where(inside[..., None], comes - place, 0)
    # around the face: as the nearest pixel of it, less and less
    outside = (~inside).astype(np.uint8)
    far, label = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    of_label = np.zeros((label.max() + 1, 2), np.float32)
    of_label[label[inside]] = shift[inside]
    around = of_label[label] * np.exp(-((far / REACH) ** 2))[..., None]
    around = cv2.GaussianBlur(around, (0, 0), 4)
    shift = np.where(inside[..., None], shift, around)
    # hidden before: seen behind the lips now, while the photo has something else there
    was, _ = rasterise(before, triangles, TURNED)
    old = cv2.remap(np.where(was >= 0, lips[was], False).astype(np.float32), comes[..., 0], comes[..., 1], cv2.INTER_NEAREST)
    new = (inside & lips[triangle] & (old < 0.5)).astype(np.float32)
    return place + cv2.GaussianBlur(shift, (0, 0), 0.7), cv2.GaussianBlur(new, (0, 0), 0.8)


def warped(random, photo, before, after, triangles, lips):
    """The photo u8 [S,S,3] with its mesh `before` moved to `after`."""
    field, hidden = warp_field(before, after, triangles, lips)
    picture = cv2.remap(photo, field[..., 0], field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if hidden.max() > 0.1:
        bright = np.percentile(photo[TURNED // 4:-TURNED // 4, TURNED // 4:-TURNED // 4].mean(-1), 80)
        teeth = random.random() < 0.6
        colour = np.array([1.0, 0.97, 0.9]) * bright if teeth else np.array([0.28, 0.15, 0.13]) * bright
        colour = colour * random.uniform(0.75, 1.1)
        picture = picture * (1 - hidden[..., None]) + colour * hidden[..., None]
    return picture.clip(0, 255).astype(np.uint8)


def lent(picture, after, lender, theirs, triangles, eye):
    """`picture` with the eye region (triangles `eye` [T] of the mesh) of `lender`, whose mesh lies at `theirs`, blended in."""
    triangle, weights = rasterise(after, triangles, TURNED)
    mask = (triangle >= 0) & eye[triangle]
    mask[:2], mask[-2:], mask[:, :2], mask[:, -2:] = 0, 0, 0, 0
    if mask.sum() < 40:
        return picture
    comes = np.einsum("yxj,yxjc->yxc", weights, theirs[triangles[triangle], :2]).astype(np.float32)
    there = cv2.remap(lender, comes[..., 0], comes[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return cv2.seamlessClone(there, picture, mask.astype(np.uint8) * 255, (x + w // 2, y + h // 2), cv2.NORMAL_CLONE)


class Studio:
    """Everything that warping one photo needs; made once in every process."""

    def __init__(self, options):
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self.model, self.fits, self.pictures = load(options)
        fits, n = self.fits, len(self.pictures.shapes)
        self.targets = losses.Targets(self.model, fits, options.work)
        self.triangles = self.model.triangles.numpy()
        self.lips = self.model.triangle_region.numpy() == MOUTH
        pose, source = fits.pose[:n], fits.source[:n]
        self.usable = np.flatnonzero(
            (np.abs(pose[:, 2]) < YAW) & (np.abs(pose[:, 1]) < PITCH) & (pose[:, 0] > SMALLEST) & (fits.habit[:n] == 0)
            & (fits.residual[:n] < WORST) & (source != "Face-Mask-Detection"))
        few = source[self.usable] == "expressions"
        self.chance = np.where(few, FEW / max(few.sum(), 1), (1 - FEW) / max((~few).sum(), 1))
        # eyes to lend, by side: rows of the fits, mirrored ones too; one person as often as another
        names, count = self.model.expression_names, fits.count
        rows = np.concatenate([np.arange(n), count + np.arange(n)])
        fine = np.tile((np.abs(pose[:, 2]) < YAW) & (pose[:, 0] > SMALLEST) & (fits.residual[:n] < WORST)
                       & (source != "Face-Mask-Detection"), 2)
        self.lenders, self.eyes = {}, {}
        mean = self.model.mean.numpy()
        for side in ("Left", "Right"):
            k = names.index("eyeBlink" + side)
            mine = rows[fine & (fits.expression[rows, k] > SHUT)]
            who, many = np.unique(fits.person[mine % count], return_counts=True)
            frames = dict(zip(who, many))
            self.lenders[side] = mine, np.array([1 / frames[p] for p in fits.person[mine % count]])
            moved = np.linalg.norm(self.model.expression[k].numpy(), axis=1)
            lid = mean[moved > 0.15 * moved.max()]
            near = np.array([((lid - v) ** 2).sum(1).min() for v in mean]) < AROUND**2
            self.eyes[side] = near[self.triangles].all(1)

    def meshes(self, i, expressions):
        """Of row i: the projected vertices [n,V,3] and landmarks [n,68,2] with expressions [n,E], picture pixels."""
        fits, n = self.fits, len(expressions)
        row = lambda values: torch.from_numpy(values[i:i + 1]).expand(n, -1)
        pose, expression = row(fits.pose), torch.from_numpy(expressions)
        bins = self.model.yaw_weights(morphable.rotation(pose[:, 1:4]))
        shape = self.targets.landmarks3d(torch.cat([row(fits.identity), expression], 1), bins,
                                         torch.full((n,), int(fits.habit[i])))
        return (morphable.project(self.model.vertices(row(fits.identity), expression), pose).numpy(),
                morphable.project(shape, pose)[..., :2].numpy())

    def photo(self, i, landmarks):
        """Row i (mirrored rows too) as a picture u8 [S,S,3] around such landmarks, and the affine that it took."""
        affine = crop_affine(landmarks, 0.0)
        affine[:, 2] += (TURNED - morphable.CROP) / 2
        return warp(self.pictures[i % self.fits.count], affine, i >= self.fits.count, TURNED), affine

    def lender(self, random, i, side):
        """A row where the eye of that side is shut: of the same split, turned alike."""
        fits = self.fits
        rows, chance = self.lenders[side]
        same = fits.split[rows % fits.count] == fits.split[i]
        rows, chance = rows[same], chance[same]
        drawn = random.choice(rows, LENDERS, p=chance / chance.sum())
        return drawn[np.abs(fits.pose[drawn, 1:3] - fits.pose[i, 1:3]).sum(1).argmin()]

    def lend(self, picture, after, j, side):
        """The shut eye of row j, laid on the mesh `after` of the picture."""
        vertices, fitted = self.meshes(j, self.fits.expression[j:j + 1])
        labels = self.fits.taught[j]
        photo, affine = self.photo(j, labels)
        place = lambda p: p @ affine[:, :2].T + affine[:, 2]
        theirs = drawn_to_labels(place(vertices[0, :, :2]), place(fitted[0])[17:], place(labels)[17:])
        return lent(picture, after, photo, theirs, self.triangles, self.eyes[side])

    @torch.no_grad()
    def face(self, i, seed):
        """Row i of the fits -> picture u8 [S,S,3], its row for `Making`."""
        random, fits, names = np.random.default_rng([9, seed]), self.fits, self.model.expression_names
        own = fits.expression[i]
        blinks = {side: names.index("eyeBlink" + side) for side in ("Left", "Right")}
        shut = max(own[k] for k in blinks.values()) > OPEN
        # a mouth that stands open does not shut: what is drawn comes on top
        changed = ((own + sides.posed(random, 0 * own, names)).clip(0, 1) if random.random() < POSED else
                   sides.one_sided(random, own, names, without=("eyeBlink",) if shut else ()))
        winks = {}
        for side, k in blinks.items():
            if changed[k] > own[k] + 0.2:
                winks[side] = self.lender(random, i, side)
                changed[k] = fits.expression[winks[side], k]
            changed[k] = max(changed[k], own[k])  # eyes that open would show the lid
        (before, after), (old, new) = self.meshes(i, np.stack([own, changed]))
        labels = fits.taught[i]
        landmarks = labels + new - old
        photo, affine = self.photo(i, landmarks)
        scale = np.sqrt(np.linalg.det(affine[:, :2]))
        place = lambda p: p @ affine[:, :2].T + affine[:, 2]
        move = place(after[:, :2]) - place(before[:, :2])
        there = drawn_to_labels(place(before[:, :2]), place(old)[17:], place(labels)[17:])
        before = np.c_[there, before[:, 2:] * scale].astype(np.float32)
        after = np.c_[there + move, after[:, 2:] * scale].astype(np.float32)
        picture = warped(random, photo, before, after, self.triangles, self.lips)
        for side, j in winks.items():
            picture = self.lend(picture, after, j, side)
        posed = fits.pose[i].copy()
        posed[0] *= scale
        posed[4:6] = place(posed[4:6])
        posed[6] *= scale
        return picture, {"i": i, "landmarks": place(landmarks).astype(np.float32), "pose": posed.astype(np.float32),
                         "expression": changed}


def open_studio(options):
    global studio  # of this process
    studio = Studio(options)


def face(job):
    return studio.face(*job)


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--count", type=int, default=COUNT)
    options = parser.parse_args()

    fits_of = hashlib.sha256((options.work / "fits.npz").read_bytes()).hexdigest()
    making = Making(options.work, "warped", f"{fits_of} {options.count}")
    here = Studio(options)  # also decodes the pictures, once
    rows = np.random.default_rng(9).choice(here.usable, options.count, p=here.chance)
    jobs = list(zip(rows, range(len(rows))))[len(making.rows):]
    with Pool(2, open_studio, (options,)) as pool:
        making.take(pool.imap(face, jobs, chunksize=16))
    making.finish(here.fits)


if __name__ == "__main__":
    main()
