"""The package's numbers are the program's, to the last digit, where it is given the same pixels and times."""

import json
import os
import re
import subprocess

import av
import mmface
import numpy as np
import pytest

from conftest import MEDIA, ROOT


def run(program, folder, *arguments):
    """The program's records."""
    path = folder / "records.jsonl"
    command = [program, *arguments, "--detector", "centerface-openvino", "--json", path]
    result = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("MMFACE_")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return records[0], [record for record in records if record["type"] == "frame"]


def times(path):
    """The times of a video's frames as GStreamer has them, in seconds. A reader of its own may round
    nanoseconds another way; networks enlarge even that to hundredths of a pixel."""
    command = ["gst-launch-1.0", "-v", "filesrc", f"location={path}", "!", "decodebin"]
    command += ["!", "fakesink", "silent=false"]
    log = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    stamps = re.findall(r" pts: (\d+):(\d+):(\d+)\.(\d+)", log)
    seconds = [(int(h) * 60 + int(m)) * 60 + int(s) for h, m, s, _ in stamps]
    nanoseconds = [
        whole * 10**9 + int(part) for whole, (*_, part) in zip(seconds, stamps, strict=True)
    ]
    # Both clips begin at 0 of their own time, wherever GStreamer's running time begins.
    return [(time - nanoseconds[0]) / 1e9 for time in nanoseconds]


@pytest.mark.parametrize(
    "name", ["single_face.mp4", "noface_face.mov", "WolfgangLanger_Pexels.mp4"]
)
def test_of_a_video(program, tmp_path, name):
    header, frames = run(
        program, tmp_path, "--file", MEDIA / name, "--landmarks", "--raw", "--device", "cpu"
    )
    tracker = mmface.Tracker()
    assert header["network"]["precision"] == tracker.precision
    assert header["face_model"]["hash"] == tracker.face_model.hash
    assert header["face_model"]["expressions"] == tracker.face_model.expressions
    numbers = 0
    with av.open(str(MEDIA / name)) as container:
        decoded = container.decode(video=0)
        for frame, time, record in zip(decoded, times(MEDIA / name), frames, strict=True):
            matrix = "bt709" if frame.colorspace == 1 else "bt601"
            pixels = frame.to_ndarray(format="yuv420p")
            faces = tracker.process(pixels, time=time, format="i420", matrix=matrix)
            assert [face.to_dict(landmarks=True, raw=True) for face in faces] == record["faces"]
            numbers += len(faces)
    assert numbers > 50


def test_of_pictures(program, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    # As PNG, so that both read the same pixels.
    for name in ("astronaut.png", "multi_face.jpg", "single_face.jpg"):
        with av.open(str(MEDIA / name)) as container:
            image = next(container.decode(video=0))
            path = (pictures / name).with_suffix(".png")
            write_png(path, image.to_ndarray(format="rgb24"))
    _, frames = run(program, tmp_path, "--images", pictures, "--landmarks", "--faces", 8)
    tracker = mmface.Tracker(faces=8, mode="stills")
    for frame in frames:
        with av.open(str(pictures / frame["file"])) as container:
            rgb = next(container.decode(video=0)).to_ndarray(format="rgb24")
        faces = tracker.process(rgb, format="rgb")
        ours = [face.to_dict(landmarks=True) for face in faces]
        assert ours == frame["faces"]
    assert [len(frame["faces"]) for frame in frames].count(0) == 0


def test_of_a_lossless_film_with_options(program, tmp_path, portrait):
    """A portrait that wanders, so that pixels are the same whoever decodes them."""
    path = tmp_path / "wandering.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 480, 400, "yuv420p"
        for n in range(40):
            x, y = 2 * n % 32, n
            rgb = np.ascontiguousarray(portrait[y : y + 400, x : x + 480])
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())
    options = {"smooth": "strong", "faces": 1, "precision": "f32"}
    flags = ["--smooth", "strong", "--faces", "1", "--precision", "f32"]
    _, frames = run(program, tmp_path, "--file", path, "--vertices", *flags)
    ours = [[f.to_dict(vertices=True) for f in faces] for _, faces in mmface.video(path, **options)]
    assert ours == [frame["faces"] for frame in frames]
    assert len(ours) == 40 and all(ours)


def write_png(path, rgb):
    with av.open(str(path), "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width = rgb.shape[:2]
        stream.pix_fmt = "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
