"""Writes turn.py's heads of validation people as a data set for `mmface-live eval`: pictures, and list.jsonl with
landmarks, pose and the true mesh of each.

    python rendered.py --out work/rendered
    mmface-live eval work/rendered/list.jsonl --volume 128
"""

import json
from pathlib import Path

import cv2
import numpy as np
import torch

import morphable
from data import argument_parser, load


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    model, fits, pictures = load(options)
    triangles = "".join("f {} {} {}\n".format(*t) for t in (model.triangles + 1).tolist())
    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "list.jsonl", "w") as file:
        for i in np.flatnonzero((fits.split == "validation") & (fits.source == "turned")):
            row = lambda values: torch.from_numpy(values[i:i + 1])
            mesh = morphable.project(model.vertices(row(fits.identity), row(fits.expression)), row(fits.pose))[0]
            vertices = "".join(f"v {x:.2f} {-y:.2f} {z:.2f}\n" for x, y, z in mesh.tolist())
            (options.out / f"{i}.obj").write_text(vertices + triangles)
            cv2.imwrite(str(options.out / f"{i}.png"), pictures[i][..., ::-1])
            file.write(json.dumps({"file": f"{i}.png", "person": str(fits.person[i]), "mesh": f"{i}.obj",
                                   "points": fits.points[i].round(2).tolist(),
                                   "pose": fits.pose[i, 1:4].astype(float).round(2).tolist()}) + "\n")


if __name__ == "__main__":
    main()
