"""Training samples: pictures in one memory-mapped file, crops with every kind of damage, targets as row numbers.

A sample is (crop u8 [3,256,256] RGB, row, affine [2,3] from picture to crop pixels, presence). Rows run over
the fits twice: row n + i is picture i mirrored (x -> -x), with left and right of labels and parameters swapped; every
target is computed from row and affine in one batch (losses.py).
"""

import argparse
import math
from pathlib import Path

import cv2
import numpy as np
import torch

from morphable import CROP, CROP_RAISE, CROP_SCALE, MIRROR68, FaceModel, rotation, upright

NEGATIVES = 0.08  # of the samples
TURNED = 320  # pixels, the side of turn.py's pictures
TURNED_SHARE = 0.45  # of the samples are turned heads
STRONG = 1.5  # standard deviations: an expression beyond is drawn more often
AVATAR = ["eyeBlinkLeft", "eyeBlinkRight", "jawOpen", "mouthSmileLeft", "mouthSmileRight", "mouthFunnel", "mouthPucker",
          "browInnerUpLeft", "browDownLeft", "browDownRight", "browOuterUpLeft", "browOuterUpRight"]  # matter most


def crop_affine(landmarks, leaning, side_factor=1.0, shift=(0.0, 0.0), turn=0.0):
    """Picture pixels -> crop pixels [2,3]: the crop of docs/conventions.md, with jitter.

    landmarks [68,2] (x right, y down), `leaning` in degrees (`morphable.upright`). `shift` is in longer sides of the
    landmark box, `turn` in radians, `side_factor` multiplies the side.
    """
    c, s = math.cos(math.radians(leaning)), math.sin(math.radians(leaning))
    turned = landmarks @ np.array([[c, -s], [s, c]])  # by -leaning: x' = c x + s y, y' = -s x + c y
    low, high = turned.min(0), turned.max(0)
    longer = (high - low).max()
    centre = (low + high) / 2 + longer * np.array([shift[0], shift[1] - CROP_RAISE])
    centre = np.array([[c, -s], [s, c]]) @ centre  # back in the picture
    angle = math.radians(leaning) + turn
    scale = CROP / (CROP_SCALE * longer * side_factor)
    c, s = math.cos(angle) * scale, math.sin(angle) * scale
    linear = np.array([[c, s], [-s, c]])
    return np.c_[linear, 127.5 - linear @ centre]


def warp(picture, affine, mirrored=False, size=CROP):
    """The crop as u8 [256,256,3]; black outside. `mirrored`: the affine expects the picture with x -> -x."""
    matrix = affine * np.array([-1, 1, 1]) if mirrored else affine
    return cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR)


class Pictures:
    """All pictures decoded once into one file of bytes, RGB; behind them those that turn.py made, if any."""

    def __init__(self, faces, files, cache):
        index, turned = cache.with_suffix(".npz"), cache.with_name("turned.bin")
        files = [f for f in files if not f.startswith("turned")]
        if not index.exists() or list(np.load(index)["picture"]) != files:
            shapes, start = [], 0
            with open(cache, "wb") as out:
                for file in files:
                    picture = cv2.imread(str(Path(faces) / file))[..., ::-1]
                    out.write(np.ascontiguousarray(picture).tobytes())
                    shapes.append((start, *picture.shape[:2]))
                    start += picture.size
            np.savez(index, picture=np.array(files), shapes=np.array(shapes))
        self.shapes = np.load(index)["shapes"]
        self.bytes = np.memmap(cache, np.uint8, "r")
        self.turned = np.memmap(turned, np.uint8, "r").reshape(-1, TURNED, TURNED, 3) if turned.exists() else None

    def __getitem__(self, i):
        if i >= len(self.shapes):
            return np.asarray(self.turned[i - len(self.shapes)])
        start, h, w = self.shapes[i]
        return np.asarray(self.bytes[start:start + h * w * 3]).reshape(h, w, 3)


class Fits:
    """What fit.py wrote, then what turn.py wrote if it did, all twice over: rows n.. are mirrored in x -> -x.
    Everything in picture pixels."""

    def __init__(self, path, model):
        data, turned = dict(np.load(path)), path.with_name("turned.npz")
        if turned.exists():
            more = np.load(turned)
            data = {k: np.concatenate([data[k], more[k]]) for k in data}
        self.count = len(data["picture"])
        self.picture, self.split, self.source = data["picture"], data["split"], data["source"]
        self.box, self.person, self.found = data["box"], data["person"], data["found"]
        self.hand, self.habit = (np.tile(data[k], 2) for k in ("hand", "habit"))
        flip = np.float32([-1, 1])
        self.points, self.taught, self.landmarks = (
            np.concatenate([data[k], data[k][:, MIRROR68] * flip]) for k in ("points", "taught", "landmarks"))
        self.pose = np.concatenate([data["pose"], data["pose"] * np.float32([1, 1, -1, -1, -1, 1, 1])])
        self.upright = upright(rotation(torch.from_numpy(self.pose[:, 1:4]))).numpy()
        self.identity = np.concatenate([data["identity"], data["identity"] * model.identity_mirror.numpy()])
        self.expression = np.concatenate([data["expression"], data["expression"][:, model.expression_mirror.numpy()]])


def argument_parser(doc):
    """For the scripts that work on the fitted pictures; `doc` is theirs."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--faces", type=Path, default=here / "../../../shared/faces")
    parser.add_argument("--work", type=Path, default=here / "work")
    parser.add_argument("--model", type=Path, default=here / "../face-model.safetensors")
    return parser


def load(options):
    """Face model, Fits and Pictures that such options name."""
    model = FaceModel(options.model)
    fits = Fits(options.work / "fits.npz", model)
    return model, fits, Pictures(options.faces, fits.picture, options.work / "pictures.bin")


def occlude(random, image, other):
    """A few boxes or ellipses of plain colour, skin, noise, or another picture."""
    for _ in range(random.integers(1, 4)):
        centre = random.uniform(40, 215, 2).astype(int)
        half = np.exp(random.normal(3.3, 0.5, 2)).clip(6, 80).astype(int)
        mask = np.zeros((CROP, CROP), np.uint8)
        if random.random() < 0.5:
            cv2.rectangle(mask, tuple(map(int, centre - half)), tuple(map(int, centre + half)), 255, -1)
        else:
            cv2.ellipse(mask, tuple(map(int, centre)), tuple(map(int, half)), random.uniform(0, 180), 0, 360, 255, -1)
        kind = random.random()
        if kind < 0.3:
            fill = np.broadcast_to(random.integers(0, 256, 3).astype(np.uint8), image.shape)
        elif kind < 0.6:  # a hand: the face's own colours from elsewhere
            fill = np.roll(image, random.integers(60, 200, 2), (0, 1))
        else:
            fill = other
        image[mask > 0] = fill[mask > 0]


def damage(random, image, other):
    """What cameras and codecs do; `other()` gives a picture to cover parts with."""
    if random.random() < 0.18:
        image = image.copy()
        occlude(random, image, other())
    if random.random() < 0.09:  # motion blur
        length = int(random.integers(3, 13))
        kernel = np.zeros((length, length), np.float32)
        angle, half = random.uniform(0, np.pi), (length - 1) / 2
        step = np.array([np.cos(angle), np.sin(angle)]) * half
        cv2.line(kernel, tuple(map(int, half - step + 0.5)), tuple(map(int, half + step + 0.5)), 1.0)
        image = cv2.filter2D(image, -1, kernel / max(kernel.sum(), 1))
    elif random.random() < 0.08:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.6, 2.2))
    small = random.random() < 0.17
    if small:  # faces down to 40 px
        size = int(np.exp(random.uniform(math.log(56), math.log(170))))
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    if random.random() < 0.2:
        quality = int(random.integers(15, 75))
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    if small:
        image = cv2.resize(image, (CROP, CROP), interpolation=cv2.INTER_LINEAR)
    # tone: one table per channel
    x = np.arange(256, dtype=np.float32) / 255
    dark = random.random() < 0.05
    gamma = np.exp(random.normal(0.9, 0.3) if dark else random.normal(0, 0.25))
    gain = np.exp(random.normal(-0.6 if dark else 0, 0.2))
    tint = np.exp(random.normal(0, 0.05, 3))
    curve = ((x ** gamma - 0.5) * gain + 0.5 - (0.25 if dark else 0))[:, None] * tint + random.normal(0, 0.06)
    table = (curve * 255).clip(0, 255).astype(np.uint8)
    image = cv2.LUT(image, table[None])
    if random.random() < 0.1:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if dark or random.random() < 0.1:
        noise = cv2.randn(np.empty(image.shape, np.int8), 0, float(random.uniform(2, 12)))
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
    return image


class Samples(torch.utils.data.IterableDataset):
    """Endless random samples from the given rows (< count) with the given weights; `damaged` is the share of them that
    goes through `damage`."""

    def __init__(self, pictures, fits, rows, weights, seed=0, damaged=1.0):
        self.pictures, self.fits, self.rows, self.seed, self.damaged = pictures, fits, rows, seed, damaged
        self.cumulative = np.cumsum(weights / weights.sum())

    def draw(self, random):
        return self.rows[min(np.searchsorted(self.cumulative, random.random()), len(self.rows) - 1)]

    def jitter(self, random):
        """Live crops come from the last frame's fit (small errors) or from a detector's box (larger, any roll)."""
        kind = random.random()
        if kind < 0.68:
            turn, size, shift = random.normal(0, 0.09), random.normal(0, 0.07), random.normal(0, 0.045, 2)
        elif kind < 0.93:
            turn, size, shift = random.normal(0, 0.2), random.normal(0, 0.10), random.normal(0, 0.07, 2)
        else:
            turn, size, shift = random.uniform(-0.8, 0.8), random.normal(0, 0.13), random.normal(0, 0.09, 2)
        return turn, math.exp(np.clip(size, -0.35, 0.35)), np.clip(shift, -0.25, 0.25)

    def negative(self, random, i):
        """No face: beside the face, a piece of it, or a shapeless picture."""
        picture, fits = self.pictures[i], self.fits
        kind = random.random()
        if kind < 0.6:  # half out of the crop or more
            angle, far = random.uniform(0, 2 * np.pi), random.uniform(0.75, 1.4)
            affine = crop_affine(fits.landmarks[i], fits.upright[i], math.exp(random.normal(0, 0.3)),
                                 (far * np.cos(angle), far * np.sin(angle)), random.normal(0, 0.3))
        elif kind < 0.85:  # a cheek, an eye, hair
            affine = crop_affine(fits.landmarks[i], fits.upright[i], random.uniform(0.12, 0.3),
                                 random.uniform(-0.6, 0.6, 2), random.uniform(-3, 3))
        else:  # its blurred remains, or upside down stripes of it
            affine = crop_affine(fits.landmarks[i], fits.upright[i], random.uniform(1, 2), (0, 0), random.uniform(-3, 3))
            image = cv2.GaussianBlur(warp(picture, affine), (0, 0), random.uniform(12, 40))
            return image, affine
        return warp(picture, affine), affine

    def sample(self, random):
        i = self.draw(random)
        other = self.draw(random)
        picture = self.pictures[i]
        if random.random() < NEGATIVES:
            image, affine = self.negative(random, i)
            return self.finish(random, image, other), i, affine, 0.0
        mirrored = random.random() < 0.5
        row = i + self.fits.count if mirrored else i
        turn, size, shift = self.jitter(random)
        affine = crop_affine(self.fits.landmarks[row], self.fits.upright[row], size, shift, turn)
        return self.finish(random, warp(picture, affine, mirrored), other), row, affine, 1.0

    def finish(self, random, image, other):
        if random.random() < self.damaged:
            def cover():
                picture = self.pictures[other]
                return cv2.resize(picture[:picture.shape[0] // 2], (CROP, CROP))
            image = damage(random, image, cover)
        return np.ascontiguousarray(image.transpose(2, 0, 1))

    def __iter__(self):
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        random = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            image, row, affine, presence = self.sample(random)
            yield torch.from_numpy(image), row, torch.from_numpy(affine).float(), presence


def row_weights(fits, rows, names):
    """How often a picture is drawn: hand labels more than the teacher's, turned heads and strong expressions more.
    `names` are those of the expressions."""
    habit, hand = fits.habit[rows], fits.hand[rows]
    weight = np.where(hand, np.where(habit == 0, 2.2, 1.3), 1.0)
    yaw = np.abs(fits.pose[rows, 2])
    weight *= 1 + np.clip((yaw - 15) / 20, 0, 2)
    made = fits.source[rows] == "turned"
    avatar = fits.expression[rows][:, [names.index(n) for n in AVATAR]]
    strength = ((avatar - avatar[~made].mean(0)) / avatar[~made].std(0)).max(1)
    weight *= 1 + np.clip((strength - STRONG) / 2, 0, 3)
    weight[made] = TURNED_SHARE / (1 - TURNED_SHARE) * weight[~made].sum() / max(made.sum(), 1)
    return weight
