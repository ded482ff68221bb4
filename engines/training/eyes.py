"""Eye patches for the gaze network (gaze.py), from photos and from rendered heads, and the geometry that goes with them.

A patch is cut around an eye of a fitted face. Its unit is the eye's width: the distance of the model's two eye corners in
space, times f, so that it does not shrink when the head turns. The patch lies on the middle of the eye's corners, turned upright
with the head, PATCH pixels large and SPAN eye widths wide. The right eye's is mirrored: the network only knows left eyes.

Photos are labelled by MediaPipe (label.py): the iris is the mean of picture and mirror, the corners are those of the
calibrated 68 points. Rendered eyes are those of our face model with a photo's skin, whose eyeballs are as large as people's
(EYEBALL) and wear an iris of their own. Writes into --work: eyes.bin (RGB bytes, [n,H,W,3], `STORED` times the patch's
extent) and eyes.npz; with --heads, whole heads with known gaze for the program instead: pictures and list.jsonl.

    python eyes.py --faces ../../../shared/faces --rendered 2000
    python eyes.py --faces ../../../shared/faces --heads 200 --out work/gaze-heads
"""

import json
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
import torch

import morphable
from data import argument_parser, load
from turn import FEW, MOUTH, SOURCE_YAW, drawn_to_labels, rasterise

PATCH = (48, 64)  # rows and columns of what the network sees
SPAN = 1.6  # eye widths across a patch
STORED = 2  # extents of a patch that are kept for each eye, so that training can shift and turn it
SIZE = (120, 160)  # pixels that are kept of them
EYES = ((36, 39), (45, 42))  # outer and inner corner of the subject's right eye, and of the left
LIDS = ((37, 38, 40, 41), (43, 44, 46, 47))
EYEBALL = 0.84  # size of people's eyeballs in the face model's: their irises' radius is 0.215 of the eye's width, its own 0.256
RAISE = 0.056  # eye widths by which people's eyeballs lie above the face model's: on photos most people look into the camera
AGREE, DISAGREE = 0.08, 0.2  # eye widths between MediaPipe's two views: from here on no label; from here on nothing to be seen
SHUT, OPEN = 0.1, 0.16  # gap of the lids in eye widths, below and above which an eye counts as shut and as open
BLINK = 0.55  # MediaPipe's score, above which an eye counts as shut
HIDDEN, SEEN = 0.12, 0.35  # share of the iris that is visible, likewise
SMALLEST = 11.0  # pixels per cm in a photo whose skin is rendered
FIELDS = ("source", "picture", "split", "side", "points", "taught", "seen", "width", "gaze")


class Eyeballs:
    """The eyeballs of the face model, the subject's right and left, shrunk about their fronts to `size` and raised as
    people's lie; centimetres. For each:
    its vertices in the mesh, their places about the centre (`arms`), the centre of rotation, the optical axis at rest, how far
    in front of the centre the middle of the iris' edge lies (`depth`), and the radius of that edge."""

    def __init__(self, model, size):
        regions = json.loads(model.metadata["regions"])
        region, triangles, mean = (x.numpy() for x in (model.triangle_region, model.triangles, model.mean))
        of = lambda name: np.unique(triangles[region == regions.index(name)])
        white, iris, pupil = of("eye"), of("iris"), of("pupil")
        ends = corners(model, torch.zeros(1, len(model.identity)))[0, 0].numpy()
        width = np.linalg.norm(ends[0] - ends[1])
        self.vertices, self.arms, self.centre, self.axis, self.depth, self.radius = ([] for _ in range(6))
        for sign in (-1, 1):
            own = lambda which: which[mean[which, 0] * sign > 0]
            vertices, edge = own(np.union1d(white, iris)), own(np.intersect1d(white, iris))
            points = mean[vertices].astype(np.float64)
            middle = points.mean(0)
            about = points - middle
            sphere = middle + np.linalg.lstsq(np.c_[2 * about, np.ones(len(about))], (about**2).sum(1), rcond=None)[0][:3]
            axis = mean[own(pupil)].mean(0) - sphere
            axis /= np.linalg.norm(axis)
            rim = mean[edge] - sphere
            self.vertices.append(own(np.unique(triangles[np.isin(region, [regions.index(n) for n in ("eye", "iris", "pupil")])])))
            self.arms.append((mean[self.vertices[-1]] - sphere) * size)
            raised = np.array([0, RAISE * width, 0])
            self.centre.append(sphere + axis * ((points - sphere) @ axis).max() * (1 - size) + raised)
            self.axis.append(axis)
            self.depth.append(size * (rim @ axis).mean())
            self.radius.append(size * np.linalg.norm(rim - np.outer(rim @ axis, axis), axis=1).mean())
        self.mean = [mean[v] for v in self.vertices]

    def moved(self, vertices, side):
        """How far identity has carried the eyeball of vertices [V,3]."""
        return (vertices[self.vertices[side]] - self.mean[side]).mean(0)


def turned(axis, pitch, yaw):
    """The matrix of an eye's turn, and its optical axis after it. Degrees: yaw to the subject's left, pitch up."""
    p, y = np.radians([pitch, yaw])
    level = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    raised = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    return level @ raised, level @ raised @ axis


def corners(model, identity):
    """[n,K] -> [n,2,2,3] cm: each eye's outer and inner corner. At rest: the model's move with the lids, by a tenth of the eye's
    width in a blink, and people's hardly."""
    which = torch.tensor(EYES)
    pick = lambda field: (field[..., model.landmarks3d_vertices[which], :]
                          * model.landmarks3d_weights[which][..., None]).sum(-2)
    return (pick(model.mean) + model.landmarks3d_offsets[which]
            + torch.tensordot(identity, pick(model.identity), 1))


def widths(model, fits_identity, f):
    """[n,2] pixels: the widths of both eyes."""
    there = corners(model, torch.as_tensor(fits_identity))
    return (there[:, :, 0] - there[:, :, 1]).norm(dim=-1).numpy() * f[:, None]


def patch_affine(middle, width, leaning, side, span, size, turn=0.0):
    """Picture pixels -> patch pixels [2,3]. `middle` of the corners, `width` of the eye (pixels), `leaning` in degrees, `side`:
    0 for the subject's right eye, whose patch is mirrored."""
    angle = np.radians(leaning) + turn
    scale = size[1] / (span * width)
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    linear = np.array([[c, s], [-s, c]])
    if side == 0:
        linear[0] *= -1
    return np.c_[linear, [(size[1] - 1) / 2, (size[0] - 1) / 2] - linear @ middle]


def cut(picture, affine, size):
    """A patch, u8 [H,W,3]; where the picture has more than two pixels for one of it, the mean of them."""
    scale = np.sqrt(abs(np.linalg.det(affine[:, :2])))
    more = int(np.clip(np.round(1 / scale), 1, 8))
    fine = affine * more
    fine[:, 2] += (more - 1) / 2
    large = cv2.warpAffine(picture, fine, (size[1] * more, size[0] * more), flags=cv2.INTER_LINEAR)
    return large if more == 1 else cv2.resize(large, size[::-1], interpolation=cv2.INTER_AREA)


def applied(affine, points):
    return points @ affine[:, :2].T + affine[:, 2]


def labelled(options, model, fits, pictures):
    """Yields patch and row of every eye of the photos of which MediaPipe says something."""
    irises = dict(np.load(options.work / "irises.npz"))
    teacher = dict(np.load(options.work / "teacher.npz"))
    place = {p: k for k, p in enumerate(irises["picture"].tolist())}
    blinks = [teacher["names"].tolist().index(n) for n in ("eyeBlinkRight", "eyeBlinkLeft")]
    size = widths(model, fits.identity[:fits.count], fits.pose[:fits.count, 0])
    for i in range(len(pictures.shapes)):
        k = place.get(str(fits.picture[i]))
        if k is None or not teacher["trust"][k]:
            continue
        for side in (0, 1):
            width, views = size[i, side], irises["irises"][k][:, side, :2]
            apart = np.linalg.norm(views[0] - views[1]) / width
            lids = irises["lids"][k, side]
            gap = np.linalg.norm(lids[2] - lids[3]) / width
            blink = teacher["scores"][k, blinks[side]]
            seen = 1 if gap > OPEN and blink < BLINK and apart < AGREE else 0 if gap < SHUT or blink > 0.7 or apart > DISAGREE else -1
            if seen < 0 and not apart < AGREE:
                continue
            points = np.concatenate([views.mean(0)[None], teacher["points"][k][list(EYES[side])]])
            affine = patch_affine(fits.landmarks[i, list(EYES[side])].mean(0), width, fits.upright[i], side, SPAN * STORED, SIZE)
            yield cut(pictures[i], affine, SIZE), {
                "source": str(fits.source[i]), "picture": str(fits.picture[i]), "split": str(fits.split[i]), "side": side,
                # an iris that one view does not find is not taught
                "points": np.nan_to_num(applied(affine, points)), "taught": [apart < AGREE, True, True], "seen": seen, "width": width,
                "gaze": np.full(3, np.nan)}


def iris_paint(random):
    """A function from angle off the optical axis and azimuth (radians) to colour [.., 3]: an eyeball's own look."""
    colour = np.array([[62, 38, 22], [95, 62, 32], [120, 90, 50], [90, 110, 90], [100, 125, 150], [60, 40, 30]][random.integers(6)])
    colour = np.clip(colour * np.exp(random.normal(0, 0.25)) + random.normal(0, 8, 3), 8, 200)
    white = np.clip(np.array([205, 195, 190]) * np.exp(random.normal(0, 0.12)) + random.normal(0, 8, 3), 90, 250)
    edge, pupil = np.radians(25.0) * np.exp(random.normal(0, 0.05)), np.radians(random.uniform(7, 14))
    rim, soft = random.uniform(0.3, 0.9), np.radians(random.uniform(0.8, 2.5))
    phase, count, rays = random.uniform(0, 7), random.integers(20, 60), random.uniform(0, 0.25)
    red = random.uniform(0, 25)

    def paint(angle, azimuth):
        step = lambda at, width: 1 / (1 + np.exp(np.clip((angle - at) / width * 4, -30, 30)))
        inside = step(edge, soft)[..., None]
        texture = 1 + rays * np.sin(count * azimuth + phase + 5 * angle) * np.sin(7 * azimuth + phase)
        ring = 1 - rim * np.exp(-(((angle - edge) / np.radians(3)) ** 2))
        iris = colour * (texture * ring)[..., None]
        ball = white - np.array([0, red, red]) * np.clip((angle - edge) / 0.6, 0, 1)[..., None]
        shown = iris * inside + ball * (1 - inside)
        return shown * (1 - step(pupil, soft / 2)[..., None]) + 10 * step(pupil, soft / 2)[..., None]
    return paint


class Studio:
    """Everything that rendering needs; made once in every process."""

    def __init__(self, options):
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self.model, self.fits, self.pictures = load(options)
        self.balls = Eyeballs(self.model, EYEBALL)
        fits, photos = self.fits, len(self.pictures.shapes)
        self.photos = photos
        self.usable = np.flatnonzero(
            (np.abs(fits.pose[:photos, 2]) < SOURCE_YAW) & (fits.pose[:photos, 0] > SMALLEST)
            & ~np.isin(fits.source[:photos], ("video", "Face-Mask-Detection", "expressions")))
        regions = json.loads(self.model.metadata["regions"])
        self.names = self.model.expression_names
        region = self.model.triangle_region.numpy()
        self.triangles = self.model.triangles.numpy()
        self.is_mouth = region == MOUTH
        self.is_ball = np.isin(region, [regions.index(n) for n in ("eye", "iris", "pupil")])
        self.is_iris = np.isin(region, [regions.index(n) for n in ("iris", "pupil")])
        self.is_socket = region == regions.index("eye_socket")

    def look(self, random, expression):
        """An expression whose lids follow a random gaze, and that gaze: [pitch, yaw] degrees, of both eyes [2,2]."""
        pitch, yaw = np.clip(random.normal(0, 13), -30, 28), np.clip(random.normal(0, 15), -32, 32)
        apart = random.normal(0, 1.5)
        gaze = np.array([[pitch, yaw + apart], [pitch, yaw - apart]])
        expression = expression.copy()
        for side, name in ((0, "Right"), (1, "Left")):
            outwards = gaze[side, 1] * (1 if side else -1)
            for what, degrees in (("Up", pitch / 25), ("Down", -pitch / 30), ("Out", outwards / 30), ("In", -outwards / 35)):
                expression[self.names.index(f"eyeLook{what}{name}")] = np.clip(degrees, 0, 1)
        lids = random.uniform(0, 0.25) if random.random() < 0.7 else random.uniform(0, 1)
        for name in ("eyeBlinkLeft", "eyeBlinkRight"):
            expression[self.names.index(name)] = lids
        return expression, gaze

    @torch.no_grad()
    def head(self, i, seed, size, f, middle):
        """Row i of the fits, `size` pixels large, f pixels per cm, `middle` (model space) in the middle: picture, and what is
        known of it."""
        random, fits, model = np.random.default_rng([21, seed]), self.fits, self.model
        changed, gaze = self.look(random, fits.expression[i] * random.uniform(0.3, 1))
        identity, expression = torch.from_numpy(fits.identity[i:i + 1]), torch.from_numpy(changed[None].astype(np.float32))
        vertices = model.vertices(identity, expression)[0].numpy().astype(np.float64)
        rest = model.vertices(identity, torch.from_numpy(fits.expression[i:i + 1] * self.still()))[0].numpy()
        angles = np.array([np.clip(random.normal(0, 11), -28, 28), np.clip(random.normal(0, 20), -50, 50), random.normal(0, 8)])
        pose = torch.tensor([[f, *angles, size / 2, size / 2, 0]], dtype=torch.float32)
        pose[:, 4:6] += size / 2 - morphable.project(torch.tensor([[middle]]), pose)[:, 0, :2]
        axes, looks, centres = [], [], []
        for side in (0, 1):
            turn, axis = turned(self.balls.axis[side], *gaze[side])
            centre = self.balls.centre[side] + self.balls.moved(rest, side)
            vertices[self.balls.vertices[side]] = centre + self.balls.arms[side] @ turn.T
            axes.append(axis)
            looks.append(turn @ [0, 0, 1])  # at rest an eye looks straight ahead, although its axis does not
            centres.append(centre)
        place = lambda points: morphable.project(torch.tensor(np.asarray(points), dtype=torch.float32)[None], pose)[0].numpy()
        eyes = corners(model, identity)[0].numpy()
        matrix = morphable.rotation(pose[:, 1:4])[0].numpy()
        source = morphable.project(model.vertices(identity, torch.from_numpy(fits.expression[i:i + 1])),
                                   torch.from_numpy(fits.pose[i:i + 1]))[0].numpy()
        source[:, :2] = drawn_to_labels(source[:, :2], fits.landmarks[i, 17:], fits.taught[i, 17:], 14 * fits.pose[i, 0] / 11.7)
        picture, shares = self.render(random, self.pictures[i], source, place(vertices), size, f)
        irises = [place([c + self.balls.depth[s] * d])[0, :2] for s, (c, d) in enumerate(zip(centres, axes))]
        points = np.array([[irises[s], *place(eyes[s])[:, :2]] for s in (0, 1)])
        return picture, {"points": points, "gaze": np.array([matrix @ d for d in looks]), "share": shares,
                         "width": np.linalg.norm(eyes[:, 0] - eyes[:, 1], axis=1) * f, "pose": pose[0].numpy()}

    def still(self):
        """0 for the expressions that turn eyeballs, 1 for all others."""
        return np.float32([not n.startswith("eyeLook") for n in self.names])

    def render(self, random, photo, source, placed, size, f):
        """The picture u8 [size,size,3], and the share of each iris that is visible."""
        large = 2 * size  # halved at the end
        points = placed.copy()
        points[:, :2] = points[:, :2] * 2 + 0.5
        triangle, weights = rasterise(points, self.triangles, large)
        hit = triangle >= 0
        where = np.einsum("yxj,yxjc->yxc", weights, source[self.triangles[triangle], :2]).astype(np.float32)
        head = cv2.remap(photo, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        ends = points[self.triangles]
        normal = np.cross(ends[:, 1] - ends[:, 0], ends[:, 2] - ends[:, 0])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        light = random.normal(0, 0.25, 3) * [1, 1, 0.5]
        shade = cv2.GaussianBlur((1 + normal @ light).astype(np.float32)[triangle], (0, 0), 5)
        shade = np.where(hit & self.is_mouth[triangle], 0.25 * shade, shade)
        skin = np.median(head[hit & ~self.is_ball[triangle]], 0).mean() if hit.any() else 128
        bright = np.clip(skin / 160, 0.35, 1.15)
        ball = hit & self.is_ball[triangle]
        paint = iris_paint(random)
        spot = random.normal([0.15, -0.25, 0], 0.25) + [0, 0, 1]
        strength, tight = random.uniform(0, 230), random.uniform(0.02, 0.09)
        shares = []
        for side in (0, 1):
            own = np.isin(self.triangles[:, 0], self.balls.vertices[side])
            mask = ball & own[triangle]
            rest = np.zeros_like(placed)
            rest[self.balls.vertices[side]] = self.balls.arms[side]
            arm = np.einsum("nj,njc->nc", weights[mask], rest[self.triangles[triangle[mask]]])
            arm /= np.linalg.norm(arm, axis=1, keepdims=True) + 1e-9
            axis = self.balls.axis[side]
            across = np.cross([0, 1, 0], axis)
            across /= np.linalg.norm(across)
            colours = paint(np.arccos(np.clip(arm @ axis, -1, 1)), np.arctan2(arm @ np.cross(axis, across), arm @ across))
            seen = normal[triangle[mask]] * [1, 1, -1]
            seen *= np.sign(seen[:, 2:])
            glint = np.exp(-((seen - spot / np.linalg.norm(spot)) ** 2).sum(1) / tight**2 / 2)
            colours = colours * bright * (1 + 0.5 * (seen @ light)[:, None]) + strength * glint[:, None]
            head[mask] = colours
            iris = (mask & self.is_iris[triangle]).sum()
            shares.append(iris / (np.pi * (self.balls.radius[side] * 2 * f) ** 2 + 1e-9))
        # Lids throw a shadow on the eyeball, deepest under the upper one.
        rim = cv2.GaussianBlur((~ball).astype(np.float32), (0, 0), 0.12 * 2 * f)
        above = np.roll(rim, int(0.12 * 2 * f), 0)
        dark = 1 - random.uniform(0.2, 0.8) * np.clip(0.5 * rim + above, 0, 1)
        head = np.where(ball[..., None], head * dark[..., None], head * shade[..., None])
        if random.random() < 0.7:  # lashes and the lid's edge
            edge = cv2.morphologyEx(ball.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).astype(np.float32)
            upper = edge * (np.roll(ball, -3, 0) > 0)
            line = cv2.GaussianBlur(upper, (0, 0), max(0.03 * 2 * f, 0.6))
            head *= 1 - random.uniform(0.2, 0.8) * np.clip(1.5 * line, 0, 1)[..., None]
        behind = cv2.resize(self.pictures[random.integers(self.photos)], (large, large))[::-1].astype(np.float32)
        mask = cv2.GaussianBlur(hit.astype(np.float32), (0, 0), 1.2)[..., None]
        picture = (head * mask + behind * (1 - mask)).clip(0, 255)
        return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8), shares

    def eyes(self, i, seed):
        """Both eyes of a rendered head as rows."""
        f = float(np.exp(np.random.default_rng([22, seed]).uniform(np.log(7), np.log(16))))
        picture, about = self.head(i, seed, int(16 * f), f, (0.0, 3.6, 8.5))
        leaning = float(morphable.upright(morphable.rotation(torch.from_numpy(about["pose"][None, 1:4])))[0])
        made = []
        for side in (0, 1):
            share = about["share"][side]
            seen = 1 if share > SEEN else 0 if share < HIDDEN else -1
            affine = patch_affine(about["points"][side, 1:].mean(0), about["width"][side], leaning, side, SPAN * STORED, SIZE)
            made.append((cut(picture, affine, SIZE), {
                "source": "rendered", "picture": f"rendered {seed}", "split": str(self.fits.split[i]), "side": side,
                "points": applied(affine, about["points"][side]), "taught": [share > HIDDEN] + [abs(about["pose"][2]) < 35] * 2,
                "seen": seen, "width": about["width"][side], "gaze": about["gaze"][side]}))
        return made


def open_studio(options):
    global studio  # of this process
    studio = Studio(options)


def eyes(job):
    return studio.eyes(*job)


def write_heads(options, studio):
    """Whole heads of validation people as pictures, and what is known of them."""
    options.out.mkdir(parents=True, exist_ok=True)
    rows = studio.usable[studio.fits.split[studio.usable] == "validation"]
    with open(options.out / "list.jsonl", "w") as file:
        for k in range(options.heads):
            picture, about = studio.head(rows[k % len(rows)], 1_000_000 + k, 480, 16.0, (0.0, 0.0, 3.0))
            cv2.imwrite(str(options.out / f"{k:04}.png"), picture[..., ::-1])
            file.write(json.dumps({"file": f"{k:04}.png", **{n: np.round(v, 4).tolist() for n, v in about.items()}}) + "\n")


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--rendered", type=int, default=2000, help="heads")
    parser.add_argument("--heads", type=int, help="whole heads of validation people, into --out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    here = Studio(options)  # also decodes the pictures, once
    if options.heads:
        return write_heads(options, here)
    rows = []
    jobs = [(i, k) for k, i in enumerate(np.random.default_rng(23).choice(here.usable, options.rendered))]
    with open(options.work / "eyes.bin", "wb") as file, Pool(2, open_studio, (options,)) as pool:
        for patch, row in labelled(options, here.model, here.fits, here.pictures):
            file.write(patch.tobytes())
            rows.append(row)
        print(f"{len(rows)} eyes of photos", flush=True)
        for made in pool.imap(eyes, jobs, chunksize=16):
            for patch, row in made:
                file.write(patch.tobytes())
                rows.append(row)
    np.savez(options.work / "eyes.npz", **{name: np.array([row[name] for row in rows]) for name in FIELDS})
    print(f"{len(rows)} eyes in all")


if __name__ == "__main__":
    main()
