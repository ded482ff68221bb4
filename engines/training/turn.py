"""Makes turned heads: a fitted model, textured with its own photo, turned to the side and up or down, often with
another expression, before another background; those for training often with hair, hats and shoulders. Or heads that are turned
little: with --sided such whose faces do something on one side only, with --posed such that show each expression as often as
another (sides.py).

Photos with hand labels stop at about 50 degrees of yaw; here the parameters are exact. (The idea is that of 300W-LP,
Zhu et al., CVPR 2016; the rendering is simpler: one mesh, one z-buffer.) Writes into --work: turned.bin (pictures, RGB
bytes, 320×320) and turned.npz (the fields of fits.npz), or files called sided and posed. A run that was cut short goes on.

    python turn.py --faces ../../../shared/faces --work work --rounds 2
    python turn.py --faces ../../../shared/faces --work work --sided 3000
    python turn.py --faces ../../../shared/faces --work work --posed 3000
"""

import hashlib
from multiprocessing import Pool

import cv2
import numpy as np
import torch

import losses
import morphable
import sides
from data import TURNED, Making, argument_parser, load
from networks import F0

ROUND = 4400  # heads
SIDE = TURNED  # pixels; the head is as large as in a crop, with room for jitter
YAW, YAW_FAR = (0.0, 88.0), 0.6  # degrees; a share is drawn from the far half only
PITCH, PITCH_LIMIT = 16.0, 45.0  # standard deviation and limit, degrees
MOUTH = 2  # region of the mesh: what lies behind the lips has no texture in most photos, and is drawn dark
DRESSED = 0.65  # of the heads for training get a `Costume`
NECK = -12.0  # cm, y in the face model: what lies below carries the shoulders
SOURCE_YAW = 25.0  # photos turned further hide too much
SMALLEST = 6.0  # pixels per cm in the photo
NEAR = 14.0  # pixels of a crop: so far does a label that lies beside the fit draw the mesh along
FIRM = 0.3  # … and so little of a single point's own
KINDS = {"turned": 7, "sided": 11, "posed": 15}  # of heads, and what their random numbers begin with
FRONTAL_YAW = 45.0  # degrees, of all but turned ones: both sides must be seen
OPEN = 0.35  # a photo whose eyes are shut more has no eyeballs to show: it is not posed
FEW = 0.06  # of the heads are of the ten people of `expressions`


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


def drawn_to_labels(points, fitted, labels, near=NEAR):
    """Points [V,2] moved as the fit's 51 inner landmarks [51,2] must move to lie on the labels: a mesh that misses an eyelid
    would smear the iris over it. All in pixels; `near` is as far as a label draws."""
    weight = lambda a: np.exp(-((a[:, None] - fitted[None]) ** 2).sum(-1) / (2 * near**2))
    weights = np.linalg.solve(weight(fitted) + FIRM * np.eye(len(fitted)), labels - fitted)
    return points + weight(points) @ weights


def vertex_normals(vertices, triangles):
    """Unit normals [V,3]: the triangles', weighed by their area."""
    corners = vertices[triangles]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, triangles[:, k], across)
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9)


class Costume:
    """What a photo from the front does not show of a head from the side: hair, a hat or a hood over a random part of the
    skull, ears and neck, and shoulders. Without it every turned head would have a bald outline and end at the neck."""

    def __init__(self, random, mean, normals):
        """mean [V,3] (cm), normals [V,3] of the face model. `over` [V]: 0…1, how much of each vertex is covered; `added`
        [V,3]: cm, by how much it stands off."""
        line = mean @ np.float32([0, 0.55, -0.83])  # cm from a plane that rises from the neck to the forehead
        start = random.uniform(-2.5, 5.0)
        over = np.clip((line - start) / 2, 0, 1)
        if random.random() < 0.3:  # long
            over = np.maximum(over, np.clip((3 - mean[:, 2]) / 2, 0, 1) * np.clip((-mean[:, 1] - 1) / 2, 0, 1))
        waves = sum(np.sin(mean @ random.normal(0, 0.35, 3) + random.uniform(0, 6)) for _ in range(3)) / 3
        self.over = over.astype(np.float32)
        self.added = (normals * (over * random.uniform(0.2, 4.0) * (1 + 0.6 * waves))[:, None]).astype(np.float32)
        self.own = random.random() < 0.3  # the photo's colours
        tone = random.choice([[25, 20, 18], [60, 42, 30], [110, 85, 60], [190, 160, 110], [150, 150, 150]])
        colour = tone + random.normal(0, 12, 3) if random.random() < 0.75 else random.uniform(10, 230, 3)
        strands = cv2.GaussianBlur(random.normal(0, 1, (SIDE, SIDE)).astype(np.float32), (0, 0), 8, None, 1.2)
        turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), random.uniform(0, 180), 1.5)
        strands = cv2.warpAffine(strands / strands.std(), turn, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
        self.paint = np.clip(colour, 5, 240)[None, None] * (1 + random.uniform(0, 0.3) * strands[..., None])
        self.wide, self.sloping = random.uniform(1.0, 1.8), random.uniform(0.1, 0.6)
        self.shoulders = random.random() < 0.7

    def behind(self, background, cloth, neck, width):
        """Shoulders of some cloth [SIDE,SIDE,3] below `neck` (x, y), on the background; `width` of the head in pixels."""
        if not self.shoulders:
            return background
        x, y = neck
        far, low = self.wide * width, y + self.sloping * width
        outline = np.array([(x - 0.35 * width, y - 0.1 * width), (x + 0.35 * width, y - 0.1 * width), (x + far, low),
                            (x + 1.1 * far, 2 * SIDE), (x - 1.1 * far, 2 * SIDE), (x - far, low)])
        mask = np.zeros((SIDE, SIDE), np.float32)
        cv2.fillPoly(mask, [outline.astype(np.int32)], 1.0, cv2.LINE_AA)
        mask = cv2.GaussianBlur(mask, (0, 0), 2)[..., None]
        return background * (1 - mask) + cloth * mask


def render(photo, source, turned, triangles, mouth, background, light, costume=None):
    """The photo's head in its new place; source, turned [V,3]: the vertices in the photo and in the new picture."""
    triangle, weights = rasterise(turned, triangles, SIDE)
    where = np.einsum("yxj,yxjc->yxc", weights, source[triangles[triangle], :2]).astype(np.float32)
    head = cv2.remap(photo, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if costume and not costume.own:
        over = np.einsum("yxj,yxj->yx", weights, costume.over[triangles[triangle]])
        over = cv2.GaussianBlur(over, (0, 0), 1.0)[..., None]
        head = head * (1 - over) + costume.paint * over
    corners = turned[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    shade = cv2.GaussianBlur((1 + normal @ light).astype(np.float32)[triangle], (0, 0), 3)
    shade = np.where(mouth[triangle], 0.25 * shade, shade)
    head = (head * shade[..., None]).clip(0, 255)
    mask = cv2.GaussianBlur((triangle >= 0).astype(np.float32), (0, 0), 0.8)[..., None]
    return (head * mask + background * (1 - mask)).astype(np.uint8)


def new_pose(random, pose, most=None):
    """Turned further to the side to which the head looks already; no further than `most` degrees, if given."""
    sign = np.sign(pose[2] + random.normal(0, 4))
    yaw = random.uniform(*YAW) if random.random() > YAW_FAR else random.uniform(sum(YAW) / 2, YAW[1])
    if most:
        yaw *= most / YAW[1]
    pitch = np.clip(pose[1] + random.normal(0, PITCH), -PITCH_LIMIT, PITCH_LIMIT)
    return np.array([11.7 * np.exp(random.normal(0, 0.05)), pitch, sign * yaw, random.normal(0, 8), 160, 160, 0],
                    np.float32)


def new_expression(random, own, other, names):
    """The photo's own, or another photo's; now and then with shut eyes, an open jaw, a funnel or a pucker."""
    closed = own[names.index("eyeBlinkLeft")] > 0.5  # its eyeballs have no texture
    expression = own.copy() if closed or random.random() < 0.4 else other.copy()
    if random.random() < 0.25:
        left, right = (random.uniform(0.5, 1), 0) if random.random() < 0.2 else (random.uniform(0.4, 1),) * 2
        for name, value in (("eyeBlinkLeft", left), ("eyeBlinkRight", right or left * (random.random() < 0.5))):
            expression[names.index(name)] = max(value, closed * 0.9)
    if random.random() < 0.2:
        expression[names.index("jawOpen")] = random.uniform(0.2, 0.9)
    if random.random() < 0.12:
        expression[names.index(str(random.choice(["mouthFunnel", "mouthPucker"])))] = random.uniform(0.2, 0.9)
    return expression


class Studio:
    """Everything that rendering one head needs; made once in every process."""

    def __init__(self, options):
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self.model, fits, self.pictures = load(options)
        self.fits = fits
        self.targets = losses.Targets(self.model, fits, options.work)
        self.neck = np.flatnonzero(self.model.mean[:, 1].numpy() < NECK)
        self.normals = vertex_normals(self.model.mean.numpy(), self.model.triangles.numpy())
        self.photos = photos = len(self.pictures.shapes)
        self.usable = np.flatnonzero(
            (np.abs(fits.pose[:photos, 2]) < SOURCE_YAW) & (fits.pose[:photos, 0] > SMALLEST)
            & ~np.isin(fits.source[:photos], ("video", "Face-Mask-Detection")))
        few = fits.source[self.usable] == "expressions"
        self.chance = np.where(few, FEW / max(few.sum(), 1), (1 - FEW * few.any()) / (~few).sum())

    @torch.no_grad()
    def head(self, i, seed, kind):
        """Row i of the fits -> picture u8 [SIDE,SIDE,3], its row for `Making`."""
        random, fits, model = np.random.default_rng([KINDS[kind], seed]), self.fits, self.model
        other = fits.expression[random.choice(self.usable)]
        changed = new_expression(random, fits.expression[i], other, model.expression_names)
        if kind == "sided":
            changed = sides.one_sided(random, changed, model.expression_names)
        elif kind == "posed":
            changed = sides.posed(random, fits.expression[i], model.expression_names)
        identity = torch.from_numpy(fits.identity[i:i + 1])
        expression = torch.from_numpy(changed[None])
        vertices = model.vertices(identity, expression)
        pose = torch.from_numpy(new_pose(random, fits.pose[i], None if kind == "turned" else FRONTAL_YAW))[None]
        bins = model.yaw_weights(morphable.rotation(pose[:, 1:4]))
        shape = self.targets.landmarks3d(torch.cat([identity, expression], 1), bins, torch.zeros(1, dtype=torch.long))
        placed = morphable.project(shape, pose)[0, :, :2].numpy()
        pose[0, 4:6] += torch.from_numpy(SIDE / 2 - (placed.min(0) + placed.max(0)) / 2)
        pose = model.centred(pose)
        seen = model.vertices(identity, torch.from_numpy(fits.expression[i:i + 1]))
        source = morphable.project(seen, torch.from_numpy(fits.pose[i:i + 1]))[0].numpy()
        if kind != "turned":
            source[:, :2] = drawn_to_labels(source[:, :2], fits.landmarks[i, 17:], fits.taught[i, 17:],
                                            NEAR * fits.pose[i, 0] / F0)
        turned = morphable.project(vertices, pose)[0].numpy()
        # another picture upside down: no second upright face
        behind = cv2.resize(self.pictures[random.integers(self.photos)], (SIDE, SIDE))[::-1].astype(np.float32)
        light = random.normal(0, 0.25, 3) * [1, 1, 0.5]
        costume, more = None, np.random.default_rng([KINDS[kind] + 1, seed])  # its own: poses do not depend on who is dressed
        if fits.split[i] == "train" and more.random() < DRESSED:
            costume = Costume(more, model.mean.numpy(), self.normals)
            cloth = cv2.resize(self.pictures[more.integers(self.photos)][-40:], (SIDE, SIDE)).astype(np.float32)
            behind = costume.behind(behind, cloth, turned[self.neck, :2].mean(0), np.ptp(turned[:, 0]))
            turned = morphable.project(vertices + torch.from_numpy(costume.added), pose)[0].numpy()
        picture = render(self.pictures[i], source, turned, model.triangles.numpy(),
                         model.triangle_region.numpy() == MOUTH, behind, light, costume)
        return picture, {"i": i, "landmarks": morphable.project(shape, pose)[0, :, :2].numpy(), "pose": pose[0].numpy(),
                         "expression": changed}


def open_studio(options):
    global studio  # of this process
    studio = Studio(options)


def head(job):
    return studio.head(*job)


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=2,
                        help=f"of {ROUND} heads; those after the first are for training only")
    for kind, what in (("sided", "with one-sided faces"), ("posed", "that show each expression as often as another")):
        parser.add_argument(f"--{kind}", type=int, metavar="HEADS", help=f"so many heads {what} instead")
    options = parser.parse_args()

    kind = "sided" if options.sided else "posed" if options.posed else "turned"
    count = options.sided or options.posed or options.rounds
    fits_of = hashlib.sha256((options.work / "fits.npz").read_bytes()).hexdigest()
    making = Making(options.work, kind, f"{fits_of} {count}")
    here = Studio(options)  # also decodes the pictures, once
    fits = here.fits
    if kind == "turned":
        drawn = [np.random.default_rng(7 + k).choice(here.usable, ROUND, p=here.chance) for k in range(count)]
        rows = np.concatenate([drawn[0], *(r[fits.split[r] == "train"] for r in drawn[1:])])
    else:
        blinks = [here.model.expression_names.index("eyeBlink" + side) for side in ("Left", "Right")]
        open_eyes = (kind == "sided") | (fits.expression[here.usable][:, blinks].max(1) < OPEN)
        chance = here.chance * open_eyes
        rows = np.random.default_rng(KINDS[kind]).choice(here.usable, count, p=chance / chance.sum())
    jobs = [(i, seed, kind) for seed, i in enumerate(rows)][len(making.rows):]
    with Pool(2, open_studio, (options,)) as pool:
        making.take(pool.imap(head, jobs, chunksize=16))
    making.finish(fits)


if __name__ == "__main__":
    main()
