"""Videos, and tables of them."""

import io
import itertools
import threading
from fractions import Fraction

import av
import mmface
import numpy as np
import pandas
import polars
import pytest

from conftest import MEDIA

FIRST = 12


def head(clip, **options):
    return list(itertools.islice(mmface.video(clip, **options), FIRST))


def decoders():
    return [thread for thread in threading.enumerate() if thread.name == "mmface-decode"]


def test_frames_and_faces(clip):
    seen = head(clip)
    frames = [frame for frame, _ in seen]
    assert [frame.number for frame in frames] == list(range(FIRST))
    assert [frame.time for frame in frames] == pytest.approx([n / 30 for n in range(FIRST)])
    assert all(len(faces) == 1 for _, faces in seen)
    assert len({faces[0].id for _, faces in seen}) == 1
    frame = frames[0]
    assert (frame.width, frame.height) == (640, 360) and frame.bgr.shape == (360, 640, 3)
    assert (frame.rgb == frame.bgr[:, :, ::-1]).all() and frame.bgr is frame.bgr
    assert repr(frame) == "<Frame 0 at 0.000 s: 640x360>"


def test_decoding_ends_with_the_loop(clip):
    for _frame, _faces in mmface.video(clip):
        break
    faces = mmface.video(clip)
    next(faces)
    faces.close()
    assert not decoders()


def test_a_tracker_serves_one_video_after_the_other(clip):
    tracker = mmface.Tracker(smooth="off")
    first, second = head(clip, tracker=tracker), head(clip, tracker=tracker)
    for (_, [a]), (_, [b]) in zip(first, second, strict=True):
        assert a.id != b.id and (a.landmarks == b.landmarks).all()
    with pytest.raises(mmface.Error, match="not both: leave out faces"):
        mmface.video(clip, tracker=tracker, faces=2)
    with pytest.raises(mmface.Error, match="tracker must be a Tracker, not a str"):
        mmface.video(clip, tracker="mine")


def test_open_files(clip):
    with clip.open("rb") as file:
        (_, [face]) = next(mmface.video(file))
    (_, [same]) = next(mmface.video(str(clip)))
    assert (face.landmarks == same.landmarks).all()
    with pytest.raises(mmface.Error, match="the file of the video is closed"):
        mmface.video(file)
    with clip.open(errors="ignore") as text, pytest.raises(mmface.Error, match="opened as text"):
        mmface.video(text)
    with pytest.raises(mmface.Error, match="cannot read the file as a video"):
        mmface.video(io.BytesIO(b"nothing of the kind"))


def test_a_file_that_is_closed_meanwhile(clip):
    with clip.open("rb") as file:
        seen = mmface.video(file)
        next(seen)
    # What was read before is still there; then it ends, or with a sentence.
    try:
        assert sum(1 for _ in seen) <= 72
    except mmface.Error as error:
        assert "cannot read" in str(error)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("", "the path of the video is empty"),
        ("/nonexistent/talk.mp4", "there is no file '/nonexistent/talk.mp4'"),
        ("a\0b", "there is no file"),
        (MEDIA, "is a folder: name a video file"),
        (b"talk.mp4", "not by a bytes"),
        (0, "not by an int"),
        (None, "not by a NoneType"),
        (__file__, "as a video"),
        (MEDIA / "astronaut.png", None),
    ],
)
def test_what_is_no_video(source, sentence):
    if sentence is None:
        # A picture is a video of one frame.
        assert len(list(mmface.video(source))) == 1
        return
    with pytest.raises(mmface.Error, match=sentence) as error:
        mmface.video(source)
    assert "\n" not in str(error.value)
    with pytest.raises(mmface.Error, match=sentence):
        mmface.measure(source)


def test_sound_and_nothing(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(mmface.Error, match="sound.wav holds no video"):
        mmface.video(path)
    path.write_bytes(b"")
    with pytest.raises(mmface.Error, match="cannot read .*sound.wav as a video"):
        mmface.video(path)


def test_damage_costs_only_what_is_damaged(clip, tmp_path):
    whole = clip.read_bytes()
    broken = bytearray(whole)
    middle = len(whole) // 2
    broken[middle : middle + 3000] = bytes(3000)
    path = tmp_path / "broken.mp4"
    path.write_bytes(broken)
    assert 20 < len(list(mmface.video(path))) <= 72
    path.write_bytes(whole[:2000])
    with pytest.raises(mmface.Error, match="cannot read|holds no video"):
        list(mmface.video(path))


def film(path, size, *, aspect=None, n=4, pix_fmt="yuv420p", rgb=None):
    """A short film."""
    with av.open(str(path), "w") as container:
        # FFV1 keeps every bit, but its stream does not say of what shape pixels are.
        stream = container.add_stream("mpeg4" if aspect else "ffv1", rate=10)
        stream.bit_rate = 20_000_000
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for _ in range(n):
            picture = np.zeros((size[1], size[0], 3), np.uint8) if rgb is None else rgb
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
        container.mux(stream.encode())
    return path


def test_pixel_formats_and_shapes(tmp_path, portrait):
    rgb = portrait[:400, :450]
    (_, [plain]) = next(mmface.video(film(tmp_path / "a.mkv", (450, 400), rgb=rgb)))
    for pix_fmt in ("yuv444p", "yuv420p10le", "gray", "bgr0"):
        path = film(tmp_path / f"{pix_fmt}.mkv", (450, 400), rgb=rgb, pix_fmt=pix_fmt)
        frame, [face] = next(mmface.video(path))
        assert frame.bgr.shape == (400, 450, 3)
        assert np.abs(face.landmarks - plain.landmarks).mean() < 2, pix_fmt
    # Odd sides.
    frame, [face] = next(mmface.video(film(tmp_path / "b.mkv", (449, 399), rgb=rgb[:399, :449])))
    assert np.abs(face.landmarks - plain.landmarks).mean() < 2 and frame.bgr.shape == (399, 449, 3)
    # Pixels twice as wide as high are made square.
    narrow = film(tmp_path / "c.mp4", (226, 400), rgb=portrait[:400, :452:2], aspect=Fraction(2))
    frame, [face] = next(mmface.video(narrow))
    assert (frame.width, frame.height) == (452, 400) and frame.bgr.shape == (400, 452, 3)
    assert np.abs(face.landmarks - plain.landmarks).mean() < 3


def test_a_table(clip):
    table = mmface.measure(clip, landmarks=True, identity=True, progress=False)
    assert isinstance(table, pandas.DataFrame) and len(table) == 72
    assert list(table.columns[:8]) == [
        "frame", "time", "id", "confidence", "box_x", "box_y", "box_width", "box_height",
    ]  # fmt: skip
    assert len(table.columns) == 3 + 1 + 4 + 11 + 3 + 53 + 60 + 136
    assert table.frame.tolist() == list(range(72)) and table.time.iloc[30] == pytest.approx(1)
    for (frame, [face]), (_, row) in zip(head(clip), table.iterrows(), strict=False):
        assert (row["frame"], row["id"]) == (frame.number, face.id)
        assert row[["pitch", "yaw", "roll"]].tolist() == face.r.tolist()
        assert row["jawOpen"] == face.expression["jawOpen"] and row["f"] == face.f
        assert row[["x_30", "y_30"]].tolist() == face.landmarks[30].tolist()
        assert row["identity_59"] == face.identity[59]
        both = face.gaze.both
        assert row[["gaze_pitch", "gaze_yaw"]].tolist() == both.angles.tolist()
        assert row["gaze_confidence"] == np.float32(both.confidence)
    assert table["yaw"].dtype == np.float32


def test_tables_of_polars_and_of_nobody(tmp_path):
    path = film(tmp_path / "black.mkv", (64, 64))
    table = mmface.measure(path, table="polars", smooth="off")
    assert isinstance(table, polars.DataFrame) and table.height == 0 and table.width == 75
    assert mmface.measure(path).shape == (0, 75)
    with pytest.raises(mmface.Error, match='table must be "pandas" or "polars", not \'excel\''):
        mmface.measure(path, table="excel")
    with pytest.raises(mmface.Error, match="faces must be a whole number"):
        mmface.measure(path, faces=0)


def test_progress(tmp_path, capsys):
    path = film(tmp_path / "black.mkv", (64, 64))
    mmface.measure(path, progress=True)
    assert "frames, " in capsys.readouterr().err
    mmface.measure(path)
    assert capsys.readouterr().err == ""


def test_without_pyav_opencv_reads(monkeypatch, clip):
    expected = head(clip)
    found = __import__("importlib.util").util.find_spec
    missing = {"av"}
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name in missing else found(name, *a)
    )
    for (frame, [face]), (ours, [same]) in zip(head(clip), expected, strict=True):
        assert frame.number == ours.number and frame.time == pytest.approx(ours.time, abs=1e-3)
        assert frame.bgr.shape == (360, 640, 3)
        assert np.abs(face.landmarks - same.landmarks).mean() < 0.5
    with clip.open("rb") as file, pytest.raises(mmface.Error, match="by their path only"):
        mmface.video(file)
    with pytest.raises(mmface.Error, match="cannot read .* as a video"):
        mmface.video(__file__)
    missing.add("cv2")
    with pytest.raises(mmface.Error, match="needs PyAV or OpenCV: pip install av"):
        mmface.video(clip)
    missing |= {"pandas", "polars"}
    with pytest.raises(mmface.Error, match="a table needs pandas or polars: pip install pandas"):
        mmface.measure(clip)
    with pytest.raises(mmface.Error, match="a table needs polars: pip install polars"):
        mmface.measure(clip, table="polars")
