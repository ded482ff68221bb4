"""What N streams cost in one process: files played in real time, by turns of their number, rate, size and faces.

Run by `make bench-streams`. Clips are made from vendor/media: a person (or several copies of her, as tiles), or a room
without anybody. Prints a table: cores in use, peak memory, frames dropped, the latency that 95 of 100 frames keep, and
how many faces a frame was found to have (the mean).

    python3 benches/streams.py --program target/release/mmface-live [LINE …]

A LINE is streams:rate:faces:height, as in 8:15:1:720. More settings for the program's configuration: --set 'idle = "keyframes"'.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LINES = ["1:15:1:720", "4:15:1:720", "8:15:1:720", "8:5:1:720", "2:30:1:720", "4:30:1:720", "8:15:0:720", "8:5:0:720",
         "1:30:5:720", "2:15:5:720", "4:5:5:720", "1:15:20:1080", "1:15:20:2160"]
MEDIA = Path(__file__).parent.parent / "vendor/media"
SECONDS = 15


def clip(folder, rate, faces, height):
    """A clip of SECONDS with so many copies of a face, made once."""
    path = folder / f"{rate}-{faces}-{height}.mp4"
    if path.exists():
        return path
    width = height * 16 // 9
    columns = {0: 1, 1: 1}.get(faces) or next(n for n in range(1, 100) if n * n >= faces)
    tile = f"video/x-raw,width={width // columns // 2 * 2},height={height // columns // 2 * 2},framerate={rate}/1"
    source = MEDIA / ("WolfgangLanger_Pexels.mp4" if faces else "no_face.mp4")
    # The clip with a face is longer than SECONDS; the one without is held at its last picture.
    start = (f"filesrc location={source} ! decodebin ! videoconvert ! videorate ! videoscale add-borders=true "
             f"! {tile},format=I420,pixel-aspect-ratio=1/1")
    end = (f"x264enc speed-preset=veryfast bframes=0 key-int-max={2 * rate} bitrate={height * 4} ! h264parse "
           f"! mp4mux ! filesink location={path}")
    if columns == 1:
        text = f"{start} ! {end}"
    else:
        pads = " ".join(f"sink_{n}::xpos={n % columns * width // columns} sink_{n}::ypos={n // columns * height // columns}"
                        for n in range(faces))
        branches = " ".join(f"t. ! queue ! c.sink_{n}" for n in range(faces))
        text = (f"compositor name=c background=black {pads} ! video/x-raw,format=I420,width={width},height={height},"
                f"framerate={rate}/1 ! {end} {start} ! tee name=t {branches}")
    subprocess.run(["gst-launch-1.0", "-q", *text.split()], check=True, stdout=subprocess.DEVNULL)
    return path


def measure(program, line, folder, settings):
    """A row of the table: the process over its streams' whole length."""
    streams, rate, faces, height = (int(part) for part in line.split(":"))
    file = clip(folder, rate, faces, height)
    config, out = folder / "streams.toml", folder / "records.jsonl"
    out.unlink(missing_ok=True)
    config.write_text(f'faces = {max(faces, 1)}\njson = "{out}"\n' + "".join(f"{text}\n" for text in settings) + "".join(
        f'[[stream]]\nname = "{n}"\nfile = "{file}"\nrealtime = true\n' for n in range(streams)))
    start = time.perf_counter()
    child = subprocess.Popen([program, "--config", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"bench-streams: {line}: {child.stderr.read().decode()}")
    sent, dropped, found, latencies = 0, 0, 0, []
    with open(out) as records:
        for record in map(json.loads, records):
            if record["type"] == "frame":
                sent += 1
                found += len(record["faces"])
                latencies.append(record["latency_ms"]["capture_to_record"])
            elif record["type"] == "end":
                dropped += sum(record["frames"]["dropped"].values())
    latencies.sort()
    total = sent + dropped
    print(f"| {streams} | {rate} | {faces} | {height} | {(used.ru_utime + used.ru_stime) / seconds:.2f} | {used.ru_maxrss / 1024:.0f} MB "
          f"| {100 * dropped / max(total, 1):.1f} % | {latencies[len(latencies) * 95 // 100]:.0f} ms | {found / max(sent, 1):.1f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", nargs="*", default=LINES, metavar="LINE", help="streams:rate:faces:height")
    parser.add_argument("--program", required=True, help="mmface-live")
    parser.add_argument("--set", action="append", default=[], help="a line of the configuration, for all streams")
    options = parser.parse_args()
    print("| streams | frames a second | faces in each | height | cores in use | memory at most | dropped "
          "| 95 of 100 within | faces found |\n|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for line in options.lines or LINES:
            measure(options.program, line, Path(folder), options.set)


if __name__ == "__main__":
    main()
