"""Makes a table of a video."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import time
from typing import Any, Literal

import numpy as np

from ._mmface import Error, Face, Tracker
from ._video import Frame, Reader, Source, follow, open_reader, tracker_for

_POSE = ("f", "pitch", "yaw", "roll", "qw", "qx", "qy", "qz", "tx", "ty", "tz")
_GAZE = ("gaze_confidence", "gaze_pitch", "gaze_yaw")
_BOX = ("box_x", "box_y", "box_width", "box_height")


def measure(
    source: Source,
    *,
    tracker: Tracker | None = None,
    landmarks: bool = False,
    identity: bool = False,
    table: Literal["pandas", "polars"] | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Any:
    """Measures a video: a table with a row for each face of each frame.

    source, tracker, options : as for video()
    landmarks : also the 68 landmarks, x_0 … x_67 and y_0 … y_67, pixels
    identity : also the weights of the identity modes, identity_0 …
    table : "pandas" or "polars"; None: the one that is installed, pandas if both are
    progress : whether a progress bar is shown; None: on a terminal

    Columns: frame (from 0), time (s), id, confidence (0…1), box_x … box_height (pixels), f (pixels
    per centimetre), pitch, yaw, roll (degrees), qw … qz (the same as a quaternion), tx, ty, tz
    (pixels), gaze_confidence (0…1), gaze_pitch, gaze_yaw (degrees, of both eyes; NaN where nothing is
    known), then the expressions by name (0…1). Frames without a face have no row.
    """
    make = _maker(table)
    reader = open_reader(source)
    tracker = tracker_for(reader, tracker, options)
    bar = _Bar(reader, sys.stderr.isatty() if progress is None else progress)
    frames: list[tuple[int, float]] = []
    ids: list[int] = []
    rows: list[Any] = []
    try:
        for frame, faces in follow(reader, tracker):
            bar.show(frame)
            for face in faces:
                frames.append((frame.number, frame.time))
                ids.append(face.id)
                rows.append(_row(face, landmarks, identity))
    finally:
        bar.close()
    names = _names(tracker, landmarks, identity)
    values = np.array(rows, np.float32).reshape(len(rows), len(names))
    columns: dict[str, Any] = {
        "frame": np.array([number for number, _ in frames], np.int64),
        "time": np.array([seconds for _, seconds in frames], np.float64),
        "id": np.array(ids, np.int64),
    }
    columns.update((name, values[:, i].copy()) for i, name in enumerate(names))
    return make(columns)


def _row(face: Face, landmarks: bool, identity: bool) -> Any:
    parts = [[face.confidence], face.box, [face.f], face.r, face.q, face.t, _gaze(face), face.expression]
    if identity:
        parts.append(face.identity)
    if landmarks:
        parts.append(face.landmarks.T.ravel())
    return np.concatenate([np.asarray(part, np.float32) for part in parts])


def _gaze(face: Face) -> list[float]:
    if face.gaze is None:
        return [math.nan] * len(_GAZE)
    return [face.gaze.both.confidence, *face.gaze.both.angles]


def _names(tracker: Tracker, landmarks: bool, identity: bool) -> list[str]:
    model = tracker.face_model
    names = ["confidence", *_BOX, *_POSE, *_GAZE, *model.expressions]
    if identity:
        names += [f"identity_{i}" for i in range(model.identities)]
    if landmarks:
        names += [f"{axis}_{i}" for axis in "xy" for i in range(68)]
    return names


def _maker(table: str | None) -> Any:
    """What makes a table of columns."""
    wanted = ("pandas", "polars") if table is None else (table,)
    if table not in (None, "pandas", "polars"):
        raise Error(f'table must be "pandas" or "polars", not {table!r}')
    for name in wanted:
        if importlib.util.find_spec(name) is None:
            continue
        return importlib.import_module(name).DataFrame
    raise Error(f"a table needs {' or '.join(wanted)}: pip install {wanted[0]}")


class _Bar:
    """A progress bar on standard error: tqdm's where it is installed, else a line of our own."""

    def __init__(self, reader: Reader, shown: bool) -> None:
        self._total = reader.total
        self._tqdm: Any = None
        self._next = time.monotonic() if shown else float("inf")
        self._started = time.monotonic()
        self._shown = False
        if shown and importlib.util.find_spec("tqdm") is not None:
            tqdm = importlib.import_module("tqdm.auto").tqdm
            self._tqdm = tqdm(total=self._total, unit="frame", desc=reader.label)

    def show(self, frame: Frame) -> None:
        if self._tqdm is not None:
            self._tqdm.update()
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.2
            count = frame.number + 1
            rate = count / max(time.monotonic() - self._started, 1e-3)
            part = f"{100 * count // self._total:3} %, " if self._total else ""
            print(f"\rmmface: {part}{count} frames, {rate:.0f} a second", end="", file=sys.stderr)
            self._shown = True

    def close(self) -> None:
        if self._tqdm is not None:
            self._tqdm.close()
        elif self._shown:
            print(file=sys.stderr, flush=True)
