"""Holds the gaze in the program's records against MediaPipe's irises and `eyeLook…` scores on photos of validation people, and
against the truth on rendered heads (eyes.py --heads).

    mmface-live --images work/expressions --json photos.jsonl
    mmface-live --images work/gaze-heads --json heads.jsonl
    python gaze_figures.py --photos photos.jsonl --heads heads.jsonl --list work/gaze-heads/list.jsonl
"""

import argparse
import json
from pathlib import Path

import numpy as np

from label import mirrored

SIDES = ("right", "left")
AGREE = 0.08  # eye widths between MediaPipe's two views
SEEN = 0.35  # share of an iris that is visible in a rendered eye
SURE = 0.5


def read(path):
    """Header and frame records, by the picture's name."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    header = next(r for r in records if r["type"] == "header")
    return header, {Path(r["file"]).name: r for r in records if r["type"] == "frame"}


def across_and_up(scores, name):
    """How far both eyes look to the subject's left, and up, from eyeLook… [.., E] whose columns `name` finds."""
    look = lambda what: scores[..., name(f"eyeLook{what}")]
    across = look("OutLeft") - look("InLeft") + look("InRight") - look("OutRight")
    return across / 2, (look("UpLeft") - look("DownLeft") + look("UpRight") - look("DownRight")) / 2


def photos(options):
    header, records = read(options.photos)
    names = header["face_model"]["expressions"]
    irises, teacher = (dict(np.load(options.work / f"{n}.npz")) for n in ("irises", "teacher"))
    theirs = teacher["names"].tolist()
    order = [theirs.index(n) for n in theirs]
    swapped = [theirs.index(mirrored(n)) for n in theirs]
    assert sorted(swapped) == order
    off, missed, eyes, pairs = [], 0, 0, []
    for k, file in enumerate(irises["picture"].tolist()):
        record = records.get(Path(file).name)
        if record is None or not record["faces"] or not teacher["trust"][k]:
            continue
        views = irises["irises"][k][..., :2]
        middle = views.mean((0, 1))
        face = min(record["faces"], key=lambda f: np.hypot(*(np.array(f["box"][:2]) + np.array(f["box"][2:]) / 2 - middle)))
        if not np.all(np.abs(np.array(face["box"][:2]) + np.array(face["box"][2:]) / 2 - middle) < np.array(face["box"][2:]) / 2):
            continue
        for side, name in enumerate(SIDES):
            lids = irises["lids"][k, side]
            width = np.linalg.norm(lids[0] - lids[1])
            apart = np.linalg.norm(views[0, side] - views[1, side]) / width
            if apart > AGREE or np.linalg.norm(lids[2] - lids[3]) / width < 0.18:
                continue
            eyes += 1
            iris = face["gaze"][name].get("iris")
            if iris is None:
                missed += 1
            else:
                off.append((100 * np.linalg.norm(np.array(iris) - views[:, side].mean(0)) / width, width))
        pairs.append((face["expression"], np.nanmean(teacher["views"][k][:2], 0), face["gaze"]["both"]["confidence"]))
    off = np.array(off)
    print(f"iris against MediaPipe's, {eyes} open eyes, {missed} missed; % of the eye's width: mean {off[:, 0].mean():.2f}, median "
          f"{np.median(off[:, 0]):.2f}, within 6 %: {100 * (off[:, 0] < 6).mean():.0f} %; eyes wider than 24 pixels: mean "
          f"{off[off[:, 1] > 24, 0].mean():.2f}")
    ours, other, sure = (np.array(x) for x in zip(*pairs))
    a, b = across_and_up(ours, names.index), across_and_up(other, theirs.index)
    for which, rows in (("all", np.ones(len(sure), bool)), ("an iris in sight", sure > SURE)):
        r = [np.corrcoef(x[rows], y[rows])[0, 1] for x, y in zip(a, b)]
        print(f"eyeLook… against MediaPipe's, {rows.sum()} faces ({which}): correlation across {r[0]:.3f}, up and down {r[1]:.3f}")
    for name in names:
        if name.startswith("eyeLook"):
            print(f"  {name} {np.corrcoef(ours[:, names.index(name)], other[:, theirs.index(name)])[0, 1]:.3f}")


def heads(options):
    _, records = read(options.heads)
    both, each, iris = [], [], []
    for about in map(json.loads, options.list.read_text().splitlines()):
        faces = records[about["file"]]["faces"]
        shown = [s for s in (0, 1) if about["share"][s] > SEEN]
        if not faces or not shown:
            continue
        gaze = faces[0]["gaze"]
        truth = np.array(about["gaze"])
        angle = lambda a, b: np.degrees(np.arccos(np.clip(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))
        both.append((angle(gaze["both"]["direction"], truth[shown].sum(0)), gaze["both"]["confidence"]))
        for side in shown:
            look = gaze[SIDES[side]]
            each.append((angle(look["direction"], truth[side]), look["confidence"]))
            if "iris" in look:
                iris.append(100 * np.linalg.norm(np.array(look["iris"]) - about["points"][side][0]) / about["width"][side])
    for name, rows in (("both eyes", both), ("each eye", each)):
        off, sure = np.array(rows).T
        told = off[sure > SURE]
        print(f"rendered heads, {name}: {len(off)}, {len(told)} told; mean {told.mean():.2f}°, median {np.median(told):.2f}°, "
              f"within 5°: {100 * (told < 5).mean():.0f} %")
    print(f"  iris mean {np.mean(iris):.2f} % of the eye's width")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--heads", type=Path)
    parser.add_argument("--list", type=Path)
    options = parser.parse_args()
    if options.photos:
        photos(options)
    if options.heads:
        heads(options)


if __name__ == "__main__":
    main()
