"""Holds the expressions in the program's records against MediaPipe's blendshape scores of the same pictures.

    mmface-live --images work/expressions --landmarks --json records.jsonl
    python agreement.py records.jsonl

Correlation over the pictures in which both found the labelled face. MediaPipe scores a face and its mirror image differently;
how far these two agree says what can be had of one picture's scores, so the mean over label.py's four views stands beside them.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from compare import box, overlap
from data import AVATAR

SAME = 0.3  # overlap of the boxes of one face
ARKIT = {"browInnerUpLeft": "browInnerUp"}  # names that the face model splits


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", type=Path, help="of a run with --images and --landmarks")
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work", help="with fits.npz and teacher.npz")
    options = parser.parse_args()

    fits, teacher = np.load(options.work / "fits.npz"), np.load(options.work / "teacher.npz")
    where = {Path(p).name: b for p, b in zip(fits["picture"], map(box, fits["landmarks"]))}
    names, views = list(teacher["names"]), dict(zip((Path(p).name for p in teacher["picture"]), teacher["views"]))
    header, *frames = [r for r in map(json.loads, options.records.open()) if r["type"] in ("header", "frame")]
    ours, theirs, missed = [], [], 0
    for frame in frames:
        label = where[frame["file"]]
        match = max(frame["faces"], key=lambda f: overlap(box(np.array(f["landmarks"])), label), default=None)
        if match is None or overlap(box(np.array(match["landmarks"])), label) < SAME:
            missed += 1
        elif np.isfinite(views[frame["file"]][:2]).all():
            ours.append(match["expression"])
            theirs.append(views[frame["file"]])
    ours, theirs = np.array(ours), np.array(theirs)  # [n,E], [n,4,52]
    print(f"{len(ours)} pictures ({missed} missed)\n\n| | MediaPipe's scores | their mean over four views | MediaPipe's in the mirror "
          "with those outside |\n|---|---|---|---|")
    for name in AVATAR:
        a = ours[:, header["face_model"]["expressions"].index(name)]
        b = theirs[:, :, names.index(ARKIT.get(name, name))]
        pairs = (a, b[:, 0]), (a, np.nanmean(b, 1)), (b[:, 1], b[:, 0])
        print(f"| {name} | " + " | ".join(f"{np.corrcoef(*pair)[0, 1]:.2f}" for pair in pairs) + " |")


if __name__ == "__main__":
    main()
