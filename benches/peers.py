"""Speed beside MediaPipe's Face Landmarker: whole processes, by turns, on the same clips, one face, results as JSON.

Run by `make bench-peers`, which installs MediaPipe in vendor/peers. Prints a table: frames a second of both and their
ratio, processor time a frame, peak memory, and the time of a run over a single frame, which is nearly all start-up. Each
figure is the median of the rounds; a ratio is the median of the rounds' ratios. "Held to" limits what OpenVINO may use of
the processor (ONEDNN_MAX_CPU_ISA); MediaPipe always uses everything.

    python3 benches/peers.py --peer vendor/peers/bin/python --program target/release/mmface-live CLIP.mp4 …
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

# cores, what OpenVINO may use ("": everything), precision
LINES = [(2, "", "auto"), (1, "", "auto"), (1, "", "bf16"), (1, "AVX512_CORE_VNNI", "auto"), (1, "AVX512_CORE", "auto"),
         (1, "AVX2_VNNI", "auto"), (1, "AVX2", "auto"), (1, "AVX2", "f32")]


def peer(model, clip, out):
    """MediaPipe on a clip, with its coefficients and matrix written as JSON lines. Runs in the peer's Python."""
    import cv2
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    landmarker = vision.FaceLandmarker.create_from_options(vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=model), running_mode=vision.RunningMode.VIDEO, num_faces=1,
        output_face_blendshapes=True, output_facial_transformation_matrixes=True))
    capture = cv2.VideoCapture(clip)
    with open(out, "w") as file:
        frame = 0
        while True:
            there, picture = capture.read()
            if not there:
                break
            at = max(round(capture.get(cv2.CAP_PROP_POS_MSEC)), frame)  # whole and increasing, as it wants them
            image = mediapipe.Image(mediapipe.ImageFormat.SRGB, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
            seen = landmarker.detect_for_video(image, at)
            faces = [{"matrix": matrix.tolist(), "expression": {c.category_name: round(c.score, 5) for c in scores}}
                     for matrix, scores in zip(seen.facial_transformation_matrixes, seen.face_blendshapes)]
            file.write(json.dumps({"frame": frame, "time": at, "faces": faces}) + "\n")
            frame += 1


def run(command, cores, isa=""):
    """Runs a command on so many cores. Seconds, seconds of processor time, peak memory in MB."""
    environment = dict(os.environ) | ({"ONEDNN_MAX_CPU_ISA": isa} if isa else {})
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
        os.execvpe(command[0], command, environment)
    _, status, used = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"bench-peers: {' '.join(command)} failed ({os.waitstatus_to_exitcode(status)})")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def records(path):
    """How many frames a file of results has."""
    with open(path) as file:
        return sum('"frame":' in line.replace(" ", "") and '"faces":' in line.replace(" ", "") for line in file)


def measure(clip, options, folder):
    """Prints the lines of one clip."""
    def ours(precision, *more):
        return [options.program, "--file", clip, "--faces", "1", "--device", "cpu", "--precision", precision,
                "--json", f"{folder}/ours.jsonl", *more]

    theirs = [options.peer, __file__, "--model", options.model, "--out", f"{folder}/theirs.jsonl", clip]
    # Nothing is in the file cache of a process that was not run yet.
    run(ours("auto"), 2), run(theirs, 2)
    for cores, isa, precision in LINES:
        pairs = []
        for _ in range(options.rounds):
            mine = run(ours(precision), cores, isa)
            other = run(theirs, cores)
            pairs.append((mine, other))
        frames = records(f"{folder}/ours.jsonl")
        if frames != records(f"{folder}/theirs.jsonl"):
            sys.exit(f"bench-peers: {clip}: not the same number of frames")
        middle = lambda values: statistics.median(values)
        fps = [middle(frames / pair[who][0] for pair in pairs) for who in (0, 1)]
        cpu = [middle(1e3 * pair[who][1] / frames for pair in pairs) for who in (0, 1)]
        memory = [middle(pair[who][2] for pair in pairs) for who in (0, 1)]
        ratio = middle(pair[1][0] / pair[0][0] for pair in pairs)
        print(f"| {Path(clip).name} | {cores} | {isa or 'everything'} | {precision} | {fps[0]:.0f} | {fps[1]:.0f} | {ratio:.2f} "
              f"| {cpu[0]:.1f} / {cpu[1]:.1f} | {memory[0]:.0f} / {memory[1]:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", metavar="CLIP")
    parser.add_argument("--peer", help="a Python with MediaPipe")
    parser.add_argument("--program", help="mmface-live")
    parser.add_argument("--model", required=True, help="face_landmarker.task")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.out:
        return peer(options.model, options.clips[0], options.out)
    print("| clip | cores | OpenVINO held to | precision | frames a second | MediaPipe | ratio | processor ms a frame "
          "| peak memory, MB |\n|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for clip in options.clips:
            measure(clip, options, folder)


if __name__ == "__main__":
    main()
