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
PART = 256  # pictures that are made before they are kept
TURNED = 320  # pixels, the side of the pictures that turn.py and warp.py make
# What is made of the photos, in files of these names, and which share of the samples it is: turned heads; heads with
# one-sided faces; heads that show each expression as often as another; photos whose own faces were changed in both ways
MADE = {"turned": 0.45, "sided": 0.0, "posed": 0.0, "warped": 0.0}
FEW_PEOPLE = 0.04  # of the samples that are photos are frames of the ten people of `expressions`, one as often as another
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
    """All pictures decoded once into one file of bytes, RGB; behind them those of MADE, if any."""

    def __init__(self, faces, files, cache):
        index = cache.with_suffix(".npz")
        files = [f for f in files if f.split()[0] not in MADE]
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
        made = [cache.with_name(f"{name}.bin") for name in MADE if cache.with_name(f"{name}.npz").exists()]
        self.made = [np.memmap(path, np.uint8, "r").reshape(-1, TURNED, TURNED, 3) for path in made]

    def __getitem__(self, i):
        if i >= len(self.shapes):
            i -= len(self.shapes)
            for made in self.made:
                if i < len(made):
                    return np.asarray(made[i])
                i -= len(made)
        start, h, w = self.shapes[i]
        return np.asarray(self.bytes[start:start + h * w * 3]).reshape(h, w, 3)


class Fits:
    """What fit.py wrote, then what is there of MADE, all twice over: rows n.. are mirrored in x -> -x. Everything in
    picture pixels."""

    def __init__(self, path, model):
        parts = [dict(np.load(p)) for p in (path, *(path.with_name(f"{name}.npz") for name in MADE)) if p.exists()]
        data = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        self.count = len(data["picture"])
        self.picture, self.split, self.source = data["picture"], data["split"], data["source"]
        self.box, self.person, self.found, self.residual = (data[k] for k in ("box", "person", "found", "residual"))
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


class Making:
    """Pictures of MADE on their way into `work`, as name.bin and name.npz. They are kept in parts of PART, so that a run that
    was cut short goes on where it was; `key` says what they are made of and how: what another key made is forgotten."""

    def __init__(self, work, name, key):
        self.work, self.name, self.rows = work, name, []
        self.files = [work / f"{name}.{end}" for end in ("part", "part.npz", "bin", "npz")]
        self.key, self.kept = np.array(key), []
        for old in self.files[2:]:
            old.unlink(missing_ok=True)
        if self.files[1].exists():
            there = np.load(self.files[1], allow_pickle=True)
            if there["key"] == self.key:
                self.rows = list(there["rows"])
        with open(self.files[0], "ab") as file:
            file.truncate(len(self.rows) * TURNED * TURNED * 3)

    def take(self, made):
        """`made`: an iterable of (picture, dict of the fields that differ from row to row)."""
        with open(self.files[0], "ab") as file:
            for picture, row in made:
                file.write(picture.tobytes())
                self.rows.append(row)
                if len(self.rows) % PART == 0:
                    self.keep(file)
            self.keep(file)

    def keep(self, file):
        file.flush()
        rows = np.empty(len(self.rows), object)
        rows[:] = self.rows
        part = self.files[1].with_suffix(".new.npz")
        np.savez(part, key=self.key, rows=rows)
        part.rename(self.files[1])
        print(f"{self.name}: {len(rows)}", flush=True)

    def finish(self, fits):
        """Writes the fields of fits.npz; the rows' `i` are the photos they were made of."""
        i = np.array([row["i"] for row in self.rows])
        field = lambda name: np.stack([row[name] for row in self.rows])
        points, n = field("landmarks"), len(i)
        self.files[0].rename(self.files[2])
        np.savez(self.files[3], picture=np.array([f"{self.name} {k}" for k in i]), split=fits.split[i],
                 source=np.array([self.name] * n), hand=np.zeros(n, bool), habit=np.zeros(n, np.int64), points=points,
                 taught=points, landmarks=points, pose=field("pose"), identity=fits.identity[i],
                 expression=field("expression"), residual=np.zeros(n), box=np.full((n, 4), np.nan), found=np.zeros(n, bool),
                 person=fits.person[i])
        self.files[1].unlink()


def shares(text):
    """"sided=0.1,warped=0.15" as MADE with these shares instead: for argparse."""
    given = {name: float(share) for name, share in (part.split("=") for part in text.split(",") if part)}
    if not given.keys() <= MADE.keys():
        raise ValueError(f"shares of {', '.join(MADE)}, not of {', '.join(given)}")
    return MADE | given


def row_weights(fits, rows, names, shares=MADE, few_people=FEW_PEOPLE):
    """How often a picture is drawn: hand labels more than the teacher's, strong expressions more; what is made of photos, and
    the frames of few people, as often as their shares say. `names` are those of the expressions."""
    habit, hand = fits.habit[rows], fits.hand[rows]
    weight = np.where(hand, np.where(habit == 0, 2.2, 1.3), 1.0)
    yaw = np.abs(fits.pose[rows, 2])
    weight *= 1 + np.clip((yaw - 15) / 20, 0, 2)
    source = fits.source[rows]
    made, few = np.isin(source, [*MADE]), source == "expressions"
    photo = ~made & ~few
    avatar = fits.expression[rows][:, [names.index(n) for n in AVATAR]]
    strength = ((avatar - avatar[photo].mean(0)) / avatar[photo].std(0)).max(1)
    weight *= 1 + np.clip((strength - STRONG) / 2, 0, 3)
    if few.any():
        for person in np.unique(fits.person[rows[few]]):
            frames = few & (fits.person[rows] == person)
            weight[frames] /= weight[frames].sum()
        weight[few] *= few_people / (1 - few_people) * weight[photo].sum() / weight[few].sum()
    shares = {name: share for name, share in shares.items() if (source == name).any()}
    photos = weight[~made].sum() / (1 - sum(shares.values()))
    for name in MADE:
        here = source == name
        weight[here] *= shares.get(name, 0.0) * photos / max(weight[here].sum(), 1e-9)
    return weight
