"""From a detector's box to the crop that the landmarks would give: centre shift and scale for the manifest.

CenterFace's boxes come with the pictures; Haar boxes are made here with OpenCV's haarcascade_frontalface_default
(OpenCV 4: run this in label.py's environment). A detector knows no roll, so the crop is taken unturned. Results go into
measured.json, from which export.py writes the manifest.

    python detectors.py --faces ../../../shared/faces --out measured.json
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from label import load_lists

CROP_SCALE, CROP_RAISE = 1.45, 0.06  # as in morphable.py, which needs PyTorch


def crop_square(points):
    """Landmarks [68,2] -> centre x, centre y, side of the unturned crop, in pixels."""
    low, high = points.min(0), points.max(0)
    longer = (high - low).max()
    centre = (low + high) / 2 - [0, CROP_RAISE * longer]
    return np.array([*centre, CROP_SCALE * longer])


def haar_box(cascade, picture):
    """The largest box found, or None."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    boxes = cascade.detectMultiScale(grey, 1.1, 5, minSize=(grey.shape[0] // 5,) * 2)
    return max(boxes, key=lambda b: b[2]) if len(boxes) else None


def calibrate(boxes, squares):
    """Medians over the pictures; the spread says how far a first crop is off, in crop sides."""
    boxes, squares = np.array(boxes, float), np.array(squares)
    longer = boxes[:, 2:].max(1)
    shift = (squares[:, :2] - boxes[:, :2] - boxes[:, 2:] / 2) / longer[:, None]
    scale = squares[:, 2] / longer
    # a box on another face tells nothing
    same = (np.abs(shift - np.median(shift, 0)) < 0.5).all(1) & (np.abs(np.log(scale / np.median(scale))) < 0.5)
    shift, scale = shift[same], scale[same]
    spread = shift.std(0) / np.median(scale)
    print(f"{same.sum()} of {len(same)} boxes: centre {np.median(shift, 0).round(3)}, scale {np.median(scale):.3f}; "
          f"spread {spread.round(3)} of the side, {np.log(scale).std():.3f} in log scale")
    return {"centre": [round(float(x), 3) for x in np.median(shift, 0)], "scale": round(float(np.median(scale)), 3)}


def main():
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, default=here / "../../../shared/faces")
    parser.add_argument("--out", type=Path, default=here / "measured.json")
    options = parser.parse_args()
    rows = [r for r in load_lists(options.faces) if r["points"] and r["box"]]
    squares = [crop_square(np.array(r["points"])) for r in rows]
    measured = json.loads(options.out.read_text())
    measured["detectors"]["centerface"] = calibrate([r["box"] for r in rows], squares)
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = [(b, s) for r, s in zip(rows, squares)
             for b in [haar_box(cascade, cv2.imread(str(options.faces / r["file"])))] if b is not None]
    print(f"haar finds {len(found)} of {len(rows)}")
    measured["detectors"]["haar"] = calibrate(*zip(*found))
    options.out.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
