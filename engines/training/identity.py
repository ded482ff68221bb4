"""What identity over time does to a clip: how far identity spreads, and whether a blink moves the head.

    mmface-live --file CLIP --raw --landmarks --json records.jsonl
    python identity.py records.jsonl …

Compares, for the face seen longest in each file, what the networks said of each frame (`raw`) with what the program
writes. Spread: standard deviation over the clip, mean over the coefficients. A blink's pull: how far the head moves (in
% of the face's size) and grows (in %) for a whole blink, by least squares of the frame-to-frame changes of t and ln f
on that of the raw blink, the mean of both eyes.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np


def series(path):
    """Names of the expressions; frame by frame the same face: raw and written {f, t, identity}, raw blink, size."""
    lines = [json.loads(line) for line in open(path)]
    frames = [f["faces"] for f in lines if f["type"] == "frame"]
    longest = Counter(face["id"] for faces in frames for face in faces).most_common(1)[0][0]
    faces = [face for faces in frames for face in faces if face["id"] == longest]
    names = lines[0]["face_model"]["expressions"]
    eyes = [names.index(n) for n in ("eyeBlinkLeft", "eyeBlinkRight")]
    pick = lambda rows: (np.array([r["identity"] for r in rows]), np.array([r["t"][:2] for r in rows]),
                         np.log([r["f"] for r in rows]))
    raw = [face["raw"] for face in faces]
    size = np.mean([np.sqrt(np.prod(np.ptp(face["landmarks"], axis=0))) for face in faces])
    return pick(raw), pick(faces), np.array([r["expression"] for r in raw])[:, eyes].mean(1), size


def pull(values, blink):
    """Length of the slope of the changes of values [n] or [n,2] on those of blink [n]."""
    change, cause = np.diff(values, axis=0), np.diff(blink)
    return np.linalg.norm(cause @ change / (cause @ cause))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", type=Path, nargs="+", metavar="RECORDS", help="of a run with --raw --landmarks")
    for path in parser.parse_args().records:
        raw, written, blink, size = series(path)
        print(f"{path}: {len(blink)} frames, blink {blink.min():.2f} to {blink.max():.2f}")
        for name, (identity, t, scale) in (("raw", raw), ("written", written)):
            print(f"  {name}: identity spreads by {identity.std(0).mean():.3f}, a blink moves the head by "
                  f"{100 * pull(t, blink) / size:.2f} % and its size by {100 * pull(scale, blink):.2f} %")


if __name__ == "__main__":
    main()
