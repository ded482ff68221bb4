"""Holds the expressions in the program's records against MediaPipe's blendshape scores of the same pictures.

    mmface-live --images work/expressions --landmarks --json records.jsonl
    python agreement.py --records records.jsonl

Correlation over the pictures in which both found the labelled face. MediaPipe scores a face and its mirror image differently,
so the mean over label.py's four views stands beside.
"""

from pathlib import Path

import numpy as np

import compare
from data import AVATAR, Fits, argument_parser
from evaluate import beside_teacher, teacher_scores
from morphable import FaceModel


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--records", type=Path, required=True, help="of a run with --images and --landmarks")
    options = parser.parse_args()

    model = FaceModel(options.model)
    fits = Fits(options.work / "fits.npz", model)
    row = {Path(p).name: i for i, p in enumerate(fits.picture)}
    records = compare.ours(options.records)
    found = {row[file]: compare.best({"points": fits.landmarks[row[file]]},
                                     [(np.array(face["landmarks"]), face["expression"]) for face in record["faces"]])
             for file, record in records.items()}
    expressions = {i: face[1] for i, face in found.items() if face}
    views = teacher_scores(options.work, model, fits.picture[[*expressions]])
    correlation = beside_teacher(model, np.array([*expressions.values()]), views)
    print(f"{len(found)} pictures, {len(found) - len(expressions)} missed\n\n| | {' | '.join(correlation)} |\n|---|---|---|---|")
    for name, *values in zip(AVATAR, *correlation.values()):
        print(f"| {name} | " + " | ".join(f"{v:.2f}" for v in values) + " |")


if __name__ == "__main__":
    main()
