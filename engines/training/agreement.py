"""Holds the expressions in the program's records against MediaPipe's blendshape scores of the same pictures.

    mmface-live --images work/expressions --landmarks --json records.jsonl
    python agreement.py --records records.jsonl

Correlation over the pictures in which both found the labelled face. MediaPipe scores a face and its mirror image differently,
so the mean over label.py's four views stands beside. Then what differs between left and right (sides.py): slope and
correlation against the mean of MediaPipe's scores of picture and mirror, and how far those two agree.
"""

from pathlib import Path

import numpy as np

import compare
import sides
from data import AVATAR, Fits, argument_parser
from evaluate import beside_teacher, teacher_scores
from morphable import FaceModel


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--records", type=Path, required=True, help="of a run with --images and --landmarks")
    options = parser.parse_args()

    model = FaceModel(options.model)
    names = model.expression_names
    fits = Fits(options.work / "fits.npz", model)
    row = {Path(p).name: i for i, p in enumerate(fits.picture)}
    records = compare.ours(options.records)
    found = {row[file]: compare.best({"points": fits.landmarks[row[file]]},
                                     [(np.array(face["landmarks"]), face["expression"]) for face in record["faces"]])
             for file, record in records.items()}
    missed = sum(not face for face in found.values())
    print(f"{len(found)} pictures, {missed} missed")
    told = {i: face[1] for i, face in found.items() if face}
    # frames of a few people would outweigh the photos, so they stand by themselves
    pulled = [i for i in told if fits.source[i] == "expressions"]
    photos = [i for i in told if fits.source[i] != "expressions"]
    for what, rows in (("photos", photos), ("people who pull faces", pulled)):
        if not rows:
            continue
        ours = np.array([told[i] for i in rows])
        views = teacher_scores(options.work, model, fits.picture[rows])
        if rows is photos:
            correlation = beside_teacher(model, ours, views)
            print(f"\n| | {' | '.join(correlation)} |\n|---|---|---|---|")
            for name, *values in zip(AVATAR, *correlation.values()):
                print(f"| {name} | " + " | ".join(f"{v:.2f}" for v in values) + " |")
        print(f"\n{what}, {len(rows)}, ours against MediaPipe:\n\n" + "\n".join(sides.table(ours, sides.both_ways(views), names)))
        print("\nMediaPipe's of the mirror against those of the picture:\n\n"
              + "\n".join(sides.table(views[1], views[0], names)))


if __name__ == "__main__":
    main()
