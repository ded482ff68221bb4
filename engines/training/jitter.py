"""How still a still face stands: frame-to-frame motion of the landmarks, in pixels of a 256 crop.

    python jitter.py --program ../../target/release/mmface-live --mediapipe face_landmarker.task PICTURE …

Each picture becomes a video of itself, the same but for the noise of a sensor (Gaussian) in every frame. The program
follows the face without smoothing and with its default; MediaPipe looks at each frame by itself (IMAGE) and follows
(VIDEO, which smooths). A pixel of the 256 crop is 1/256 of 1.45 times the longer side of the landmarks' box. Needs
label.py's environment.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np

from label import MEDIAPIPE68, landmarker, look

CROP_SCALE = 1.45


def motion(points):
    """Mean distance of a point [frames,68,2] from where it was a frame before, in pixels of a 256 crop."""
    side = CROP_SCALE * np.ptp(points.mean(0), axis=0).max()
    return np.linalg.norm(np.diff(points, axis=0), axis=2).mean() * 256 / side


def still(picture, frames, noise, seed=1):
    """[frames,h,w,3]: a picture whose sides are even, with noise of `noise` levels of 255."""
    random, picture = np.random.default_rng(seed), picture[:len(picture) // 2 * 2, :picture.shape[1] // 2 * 2]
    for _ in range(frames):
        yield np.clip(np.rint(picture + random.normal(0, noise, picture.shape)), 0, 255).astype(np.uint8)


def ours(program, frames, smooth):
    """Landmarks of the first face [frames,68,2]."""
    with tempfile.TemporaryDirectory() as folder:
        video, records = Path(folder) / "still.mkv", Path(folder) / "records.jsonl"
        h, w = frames[0].shape[:2]
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"FFV1"), 30, (w, h))
        for frame in frames:
            writer.write(frame)
        writer.release()
        subprocess.run([program, "--file", video, "--smooth", smooth, "--faces", "1", "--landmarks", "--json", records],
                       check=True, stderr=subprocess.DEVNULL)
        faces = [r["faces"] for r in map(json.loads, records.open()) if r["type"] == "frame"]
    return np.array([f[0]["landmarks"] for f in faces if f])


def theirs(model, frames, video):
    """The same of MediaPipe."""
    from mediapipe.tasks.python.vision import RunningMode
    mode = RunningMode.VIDEO if video else RunningMode.IMAGE
    with landmarker(model, num_faces=1, running_mode=mode) as network:
        seen = [look(network, frame, 33 * i if video else None)[0] for i, frame in enumerate(frames)]
    return np.array([points[0][MEDIAPIPE68, :2] for points in seen if len(points)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE")
    parser.add_argument("--program", type=Path, required=True, help="mmface-live; run this where it finds its engines")
    parser.add_argument("--mediapipe", type=Path, required=True, help="face_landmarker.task")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--noise", type=float, default=4, help="standard deviation, levels of 255")
    options = parser.parse_args()
    print("| picture | ours, off | MediaPipe, IMAGE | ours, medium | MediaPipe, VIDEO |\n|---|---|---|---|---|")
    for path in options.pictures:
        frames = list(still(cv2.imread(str(path)), options.frames, options.noise))
        seen = [points for smooth, video in (("off", False), ("medium", True))
                for points in (ours(options.program, frames, smooth), theirs(options.mediapipe, frames, video))]
        print(f"| {path.name} | " + " | ".join(f"{motion(p):.2f}" if len(p) > 1 else "–" for p in seen) + " |")


if __name__ == "__main__":
    main()
