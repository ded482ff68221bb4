"""Frames in, faces out; and what is said about wrong ones."""

import re
import threading
import time

import mmface
import numpy as np
import pytest


def only(faces: list[mmface.Face]) -> mmface.Face:
    assert len(faces) == 1
    return faces[0]


def test_a_face_has_what_the_docs_say(stills, portrait):
    face = only(stills.process(portrait, format="rgb"))
    assert face.id >= 1 and 0.5 < face.confidence <= 1
    shapes = {"box": 4, "r": 3, "q": 4, "t": 3, "identity": 60}
    for name, length in shapes.items():
        value = getattr(face, name)
        assert value.shape == (length,) and value.dtype == np.float32 and np.isfinite(value).all()
    assert face.landmarks.shape == (68, 2) and face.landmarks3d.shape == (68, 3)
    x, y, width, height = face.box
    assert (face.landmarks >= [x - 0.01, y - 0.01]).all()
    assert (face.landmarks <= [x + width + 0.01, y + height + 0.01]).all()
    # Eileen Collins's face in the picture, and her smile.
    assert 170 < x + width / 2 < 270 and 60 < y + height / 2 < 180
    assert face.expression["mouthSmileLeft"] > 0.2
    assert abs(np.linalg.norm(face.q) - 1) < 1e-5 and (np.abs(face.r) < 30).all()
    assert str(face).startswith("<Face ") and str(face.raw).startswith("<Raw")
    # Pictures are not smoothed.
    assert face.raw.f == face.f and (face.raw.t == face.t).all() and (face.raw.r == face.r).all()
    assert (face.raw.q == face.q).all()
    # The eyes follow from where they look.
    for name, value in face.raw.expression.items():
        assert name.startswith("eyeLook") or value == face.expression[name]


def test_expression_is_a_mapping(stills, portrait):
    expression = only(stills.process(portrait, format="rgb")).expression
    from collections.abc import Mapping

    assert isinstance(expression, Mapping)
    assert len(expression) == 53 and "jawOpen" in expression and 5 not in expression
    assert list(expression) == list(expression.keys()) == mmface.face_model().expressions
    assert dict(expression) == dict(expression.items()) == expression
    weights = np.asarray(expression)
    assert weights.dtype == np.float32 and weights.tolist() == expression.values()
    assert np.asarray(expression, dtype=np.float64).dtype == np.float64
    assert expression.get("jawOpen") == expression["jawOpen"]
    assert expression.get("wings") is None and expression.get("wings", 0.5) == 0.5
    with pytest.raises(KeyError, match="wings"):
        expression["wings"]
    with pytest.raises(TypeError):
        expression["jawOpen"] = 1


def test_the_pose_in_the_space_of_a_camera(stills, portrait):
    face = only(stills.process(portrait, format="rgb"))
    height, width = portrait.shape[:2]
    pose = face.in_camera((width, height), fov=60)
    assert pose.focal == pytest.approx(width / 2 / np.tan(np.radians(30)), rel=1e-5)
    # As far away as a head of this size in the picture is, and in its direction.
    assert -pose.t[2] == pytest.approx(pose.focal / face.f, rel=0.2)
    assert pose.t[0] * -pose.focal / pose.t[2] == pytest.approx(face.t[0] - (width - 1) / 2, abs=0.1 * width)
    assert np.linalg.norm(pose.q) == pytest.approx(1, abs=1e-3)
    same = face.in_camera((width, height), focal=pose.focal)
    np.testing.assert_allclose(same.t, pose.t, rtol=1e-3)
    for wrong in ({}, {"fov": 60, "focal": 900}, {"fov": 0}, {"focal": float("nan")}):
        with pytest.raises(mmface.Error):
            face.in_camera((width, height), **wrong)


def test_gaze_is_where_the_eyes_look(stills, portrait):
    gaze = only(stills.process(portrait, format="rgb")).gaze
    for look in (gaze.left, gaze.right, gaze.both):
        assert look.direction.shape == (3,) and abs(np.linalg.norm(look.direction) - 1) < 1e-4
        pitch, yaw = np.radians(look.angles)
        direction = [-np.sin(yaw), np.sin(pitch) * np.cos(yaw), np.cos(pitch) * np.cos(yaw)]
        assert np.allclose(look.direction, direction, atol=1e-3)
        # She looks into the camera, or nearly.
        assert look.confidence > 0.5 and np.degrees(np.arccos(look.direction[2])) < 15
    assert gaze.both.iris is None
    # The subject's right eye is on the left of the picture.
    assert gaze.right.iris[0] < gaze.left.iris[0]


def test_pixels_count_and_not_how_they_lie_in_memory(stills, portrait):
    bgr = np.ascontiguousarray(portrait[:, :, ::-1])
    expected = only(stills.process(bgr)).to_dict(landmarks=True)
    expected.pop("id")
    padded = np.zeros((520, 530, 3), np.uint8)
    padded[4:516, 9:521] = bgr
    with_alpha = np.dstack([bgr, np.full((512, 512), 7, np.uint8)])
    read_only = bgr.copy()
    read_only.flags.writeable = False
    upside_down = np.ascontiguousarray(bgr[::-1])
    for frame, options in [
        (portrait, {"format": "rgb"}),
        (portrait[:, :, ::-1], {}),
        (bgr, {"format": "bgr"}),
        (padded[4:516, 9:521], {}),
        (with_alpha[:, :, :3], {}),
        (upside_down[::-1], {}),
        (np.asfortranarray(bgr), {}),
        (np.ascontiguousarray(bgr.transpose(2, 1, 0)).transpose(2, 1, 0), {}),
        (read_only, {}),
    ]:
        found = only(stills.process(frame, **options)).to_dict(landmarks=True)
        found.pop("id")
        assert found == expected


def test_grey_and_yuv(stills, portrait):
    grey = portrait.mean(axis=2).astype(np.uint8)
    seen = only(stills.process(grey))
    assert (only(stills.process(grey[:, :, None], format="grey")).r == seen.r).all()
    # Grey as YUV: luma in 16…235 and chroma in the middle; here with the full range.
    chroma = np.full((256, 256), 128, np.uint8)
    planes = (grey, chroma, chroma)
    yuv = only(stills.process(planes, format="i420", full_range=True))
    assert np.abs(yuv.r - seen.r).max() < 1
    packed = np.concatenate([plane.reshape(-1, 512) for plane in planes])
    assert packed.shape == (768, 512)
    again = only(stills.process(packed, format="i420", full_range=True))
    assert (again.r == yuv.r).all()
    nv12 = (grey, np.full((256, 512), 128, np.uint8))
    assert (only(stills.process(nv12, format="nv12", full_range=True)).r == yuv.r).all()
    nv12 = (grey, np.full((256, 256, 2), 128, np.uint8))
    assert (only(stills.process(nv12, format="nv12", full_range=True)).r == yuv.r).all()
    # Odd sides: chroma planes are rounded up.
    odd = (grey[:511, :511], chroma, chroma)
    assert len(stills.process(odd, format="i420", matrix="bt709")) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (2, 3000, 3), (3000, 2, 3), (17, 5, 3)])
def test_frames_of_odd_sizes_hold_nobody(stills, shape):
    assert stills.process(np.zeros(shape, np.uint8)) == []


def test_frames_that_repeat_one_byte(stills):
    assert stills.process(np.broadcast_to(np.uint8(9), (100, 100, 3))) == []


@pytest.mark.parametrize(
    ("frame", "options", "sentence"),
    [
        (None, {}, "must be a NumPy array of uint8, not None: was the picture or frame read"),
        ("a.jpg", {}, "must be a NumPy array of uint8, not 'a.jpg'"),
        (7, {}, "must be a NumPy array of uint8, not 7"),
        (np.zeros((4, 4, 3)), {}, "must be of dtype uint8, not float64: if it holds 0…1"),
        (np.zeros((4, 4, 3), np.uint16), {}, "must be of dtype uint8, not uint16: of 16 bits"),
        (np.zeros((4, 4, 3), np.int8), {}, "must be of dtype uint8, not int8: convert it"),
        (np.zeros((4, 4, 3), bool), {}, "must be of dtype uint8, not bool"),
        (np.zeros((4, 4, 3), object), {}, "must be of dtype uint8, not object"),
        (np.zeros((4, 4, 4), np.uint8), {}, "this one has (4, 4, 4): leave out the fourth"),
        (np.zeros((2, 4, 4, 3), np.uint8), {}, "(2, 4, 4, 3): pass one frame after the other"),
        (np.zeros((1, 4, 4, 3), np.uint8), {}, "(1, 4, 4, 3): pass frame[0]"),
        (np.zeros((3, 4, 4), np.uint8), {}, "(3, 4, 4): put the channels last"),
        (np.zeros(12, np.uint8), {}, "this one has (12,)"),
        (np.uint8(3), {}, "must be a NumPy array of uint8"),
        (np.array(3, np.uint8), {}, "this one has ()"),
        (np.zeros((4, 4), np.uint8), {"format": "bgr"}, "(4, 4): leave out format="),
        (np.zeros((4, 4, 2), np.uint8), {}, "this one has (4, 4, 2)"),
        (np.zeros((0, 4, 3), np.uint8), {}, "the frame is empty (shape (0, 4, 3))"),
        (np.zeros((4, 0, 3), np.uint8), {}, "the frame is empty (shape (4, 0, 3))"),
        (np.zeros((0, 0), np.uint8), {}, "the frame is empty (shape (0, 0))"),
        (np.zeros((1, 70000), np.uint8), {}, "a side can have 65536 at most"),
        (np.zeros((7, 4), np.uint8), {"format": "i420"}, "with even sides, or three planes"),
        (np.zeros((4, 4, 3), np.uint8), {"format": "gbr"}, 'one of "bgr", "rgb", "grey"'),
        (np.zeros((4, 4, 3), np.uint8), {"format": 3}, "not 3"),
        ((np.zeros((4, 4), np.uint8),), {}, 'only with format="i420" or "nv12"'),
        ((np.zeros((4, 4), np.uint8),), {"format": "i420"}, "the planes have the shapes (4, 4);"),
        ((), {"format": "i420"}, "the planes have the shapes"),
        ((None, None, None), {"format": "i420"}, "a plane must be a NumPy array"),
        ((np.zeros((2, 2), np.uint8),) * 3, {"format": "i420"}, "(2, 2), (2, 2), (2, 2);"),
        ((np.zeros((4, 4), np.uint8),) * 2, {"format": "nv12"}, "(4, 4), (4, 4);"),
        (np.zeros((4, 4), np.uint8), {"matrix": "bt2020"}, 'one of "bt601", "bt709"'),
    ],
)
def test_a_frame_that_is_none_gets_one_sentence(stills, frame, options, sentence):
    with pytest.raises(mmface.Error, match=re.escape(sentence)) as error:
        stills.process(frame, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"faces": 0}, "faces must be a whole number from 1 to 64, not 0"),
        ({"faces": -1}, "faces must be a whole number"),
        ({"faces": 2.5}, "faces must be a whole number"),
        ({"faces": "four"}, "faces must be a whole number from 1 to 64, not 'four'"),
        ({"faces": True}, "faces must be a whole number"),
        ({"faces": 2**70}, "faces must be a whole number"),
        ({"smooth": "much"}, 'smooth must be one of "off", "light", "medium", "strong", "avatar"'),
        ({"mode": "video"}, 'mode must be one of "recording", "live", "stills"'),
        ({"device": "cuda"}, 'device must be one of "auto", "cpu", not \'cuda\''),
        ({"precision": "f16"}, 'precision must be one of "f32", "bf16", "int8"'),
        ({"variant": "mmface-xl"}, 'there is no variant "mmface-xl"; there are: mmface-lite'),
        ({"variant": 3}, "variant must be a string, not 3"),
        ({"threads": 0}, "threads must be a whole number"),
        ({"detect_every": float("nan")}, "detect_every must be a finite number of seconds, not nan"),
        ({"detect_every": -1}, "detect_every cannot be negative"),
        ({"reidentify": "long"}, "reidentify must be a finite number of seconds, not 'long'"),
        ({"detect_size": 10}, "detect_size must be a whole number from 64 to 4096"),
        ({"models": "/nonexistent"}, "/nonexistent/manifest.toml"),
        ({"models": 3}, "models must be a path"),
    ],
)
def test_a_wrong_option_gets_one_sentence(options, sentence):
    with pytest.raises(mmface.Error, match=re.escape(sentence)) as error:
        mmface.Tracker(**options)
    assert "\n" not in str(error.value)


def test_time(portrait):
    tracker = mmface.Tracker()
    frame = portrait[:, :, ::-1]
    with pytest.raises(mmface.Error, match="needs the time of each frame"):
        tracker.process(frame)
    for wrong in (float("nan"), float("inf"), -float("inf"), 1e13, "now", None.__class__, [1.0]):
        with pytest.raises(mmface.Error, match="time must be a finite number of seconds"):
            tracker.process(frame, wrong)
    first = only(tracker.process(frame, 1))
    again = only(tracker.process(frame, np.float32(1)))
    assert again.id == first.id and (again.t == first.t).all()
    with pytest.raises(mmface.Error, match=r"backwards, from 1 to 0\.5 seconds: call reset\(\)"):
        tracker.process(frame, 0.5)
    assert only(tracker.process(frame, 1.04)).id == first.id
    tracker.reset()
    assert only(tracker.process(frame, 0.5)).id > first.id
    assert only(tracker.process(frame, 1e12)).confidence > 0.5


def test_live_frames_get_the_time_of_the_clock(portrait):
    tracker = mmface.Tracker(mode="live")
    frame = portrait[:, :, ::-1]
    deadline = time.monotonic() + 30
    while not (faces := tracker.process(frame)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert only(tracker.process(frame)).id == only(faces).id


def test_what_a_tracker_says_of_itself():
    tracker = mmface.Tracker(faces=2, smooth="off", precision="f32")
    assert (tracker.faces, tracker.mode, tracker.variant) == (2, "recording", "mmface-lite")
    assert (tracker.device, tracker.precision) == ("cpu", "f32")
    assert repr(tracker) == "<Tracker of up to 2 faces: recording, mmface-lite on cpu in f32>"
    assert "faces=4" in mmface.Tracker.__text_signature__
    assert mmface.Tracker.process.__doc__.startswith("The faces in the next frame")


def test_trackers_share_the_networks():
    started = time.monotonic()
    first = mmface.Tracker()
    opened = time.monotonic() - started
    started = time.monotonic()
    others = [mmface.Tracker(faces=n) for n in range(1, 9)]
    assert time.monotonic() - started < max(1.0, opened), "eight more took longer than one"
    assert others[0].face_model.hash == first.face_model.hash


def test_other_threads_run_while_the_networks_do(portrait):
    """Two trackers on two threads get what each gets alone, and a third thread counts meanwhile."""
    frame = np.ascontiguousarray(portrait[:, :, ::-1])

    def run(tracker):
        faces = [only(tracker.process(frame, n / 25)) for n in range(12)]
        return [face.landmarks.tobytes() for face in faces]

    alone = run(mmface.Tracker())
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(run(mmface.Tracker()))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    count = 0
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.001)
        count += 1
    assert results == [alone, alone]
    assert count >= 12, "the interpreter stood still"


def test_threads_may_share_a_tracker(stills, portrait):
    failures = []

    def work():
        try:
            for _ in range(3):
                only(stills.process(portrait, format="rgb"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures and not any(thread.is_alive() for thread in threads)
