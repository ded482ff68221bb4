"""Scores the program itself: records of `mmface-live --images DIR --landmarks` against labels.

    mmface-live --images DIR --landmarks --json records.jsonl
    python score.py --labels labelled-68.jsonl --labels pictures.jsonl --records records.jsonl [--only validation --work work]

Detection is included. Errors are the mean distance of the 68 points (inner: 17–67) in % of √(area of the labelled
points' box). *free*: after each point's mean offset, in a frame turned upright by the eye line and scaled by that box,
is taken off; it is learnt on one half of the people and applied to the other, so a habit of placing points costs
nothing. A face is missed if no record of its picture has a landmark box that overlaps the labelled one by 0.3.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np


def box(points):
    low, high = points.min(0), points.max(0)
    return np.concatenate([low, high])


def overlap(a, b):
    """Intersection over union of two boxes [x0, y0, x1, y1]."""
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    area = [np.prod(v[2:] - v[:2]) for v in (a, b)]
    return sides.prod() / (sum(area) - sides.prod())


def upright(points):
    """Rotation [2,2] that levels the line between the eyes of labelled points [68,2]."""
    x, y = points[42:48].mean(0) - points[36:42].mean(0)
    return np.array([[x, y], [-y, x]]) / np.hypot(x, y)


def second_half(row):
    """People are halved by name; a picture without one is its own person."""
    return hashlib.sha256((row.get("person") or row["file"]).encode()).digest()[0] % 2 == 1


def main():
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, action="append", required=True, help="JSON lines with points or points68")
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--only", choices=["train", "validation"], help="the part of the split that fit.py made")
    parser.add_argument("--work", type=Path, default=here / "work")
    options = parser.parse_args()

    part = None
    if options.only:
        fits = np.load(options.work / "fits.npz")
        part = set(fits["picture"][fits["split"] == options.only])
    records = (json.loads(line) for line in options.records.open())
    seen = {r["file"]: r["faces"] for r in records if r["type"] == "frame"}
    print("| labels | pictures | missed | raw, inner / all | free, inner / all |\n|---|---|---|---|---|")
    for path in options.labels:
        rows = [json.loads(line) for line in path.open()]
        rows = [r for r in rows if ("points" in r or "points68" in r) and Path(r["file"]).name in seen
                and (part is None or r["file"] in part)]
        offsets, halves = [], []
        for row in rows:
            truth = np.array(row.get("points") or row["points68"], float)
            found = [np.array(face["landmarks"]) for face in seen[Path(row["file"]).name]]
            best = max(found, key=lambda p: overlap(box(p), box(truth)), default=None)
            if best is None or overlap(box(best), box(truth)) < 0.3:
                continue
            size = np.sqrt(np.prod(np.ptp(truth, axis=0)))
            offsets.append((best - truth) @ upright(truth).T / size * 100)
            halves.append(second_half(row))
        if not offsets:
            print(f"| {path.name} | {len(rows)} | {len(rows)} | | |")
            continue
        offsets, halves = np.array(offsets), np.array(halves)
        free = offsets.copy()
        for half in (True, False):
            if (halves != half).any():
                free[halves == half] -= offsets[halves != half].mean(0)
        raw, free = (np.linalg.norm(v, axis=2) for v in (offsets, free))
        print(f"| {path.name} | {len(rows)} | {len(rows) - len(offsets)} | {raw[:, 17:].mean():.2f} / {raw.mean():.2f} "
              f"| {free[:, 17:].mean():.2f} / {free.mean():.2f} |")


if __name__ == "__main__":
    main()
