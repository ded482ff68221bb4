"""Reads videos: with PyAV where it is installed, else with OpenCV."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import queue
import threading
from collections.abc import Iterator
from typing import IO, Any, Literal, Union

import numpy as np
import numpy.typing as npt

from ._mmface import Error, Face, Tracker

#: What names a video: a path, a URL that FFmpeg reads, or a file opened in binary mode.
Source = Union[str, "os.PathLike[str]", IO[bytes]]
Pixels = npt.NDArray[np.uint8]

#: Frames that are decoded ahead.
_AHEAD = 4


class Frame:
    """A frame of a video, turned upright, with square pixels.

    number : counts the decoded frames, from 0
    time : seconds since the start of the video
    """

    def __init__(self, number: int, time: float, pixels: _Pixels) -> None:
        self.number = number
        self.time = time
        self._pixels = pixels
        self._bgr: Pixels | None = None

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self._pixels.size[0]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self._pixels.size[1]

    @property
    def bgr(self) -> Pixels:
        """The pixels in OpenCV's order: uint8, shape (height, width, 3). Converted when asked for."""
        if self._bgr is None:
            self._bgr = self._pixels.bgr()
        return self._bgr

    @property
    def rgb(self) -> Pixels:
        """The pixels in the order of Matplotlib, Pillow and PyTorch: uint8, (height, width, 3)."""
        return self.bgr[:, :, ::-1]

    def __repr__(self) -> str:
        return f"<Frame {self.number} at {self.time:.3f} s: {self.width}x{self.height}>"


class _Pixels:
    """What a reader hands over: pixels in its own form."""

    size: tuple[int, int]

    def bgr(self) -> Pixels:
        raise NotImplementedError

    def faces(self, tracker: Tracker, time: float) -> list[Face]:
        raise NotImplementedError


class _Bgr(_Pixels):
    """A frame of OpenCV."""

    def __init__(self, pixels: Pixels) -> None:
        self.size = (pixels.shape[1], pixels.shape[0])
        self._pixels = pixels

    def bgr(self) -> Pixels:
        return self._pixels

    def faces(self, tracker: Tracker, time: float) -> list[Face]:
        return tracker.process(self._pixels, time)


class _Yuv(_Pixels):
    """A frame of PyAV in 4:2:0, as nearly all videos are: no conversion before it is measured."""

    def __init__(self, frame: Any, turns: int) -> None:
        self._frame = frame
        self._turns = turns
        size = (frame.width, frame.height)
        self.size = size[::-1] if turns % 2 else size

    def bgr(self) -> Pixels:
        return np.ascontiguousarray(np.rot90(self._frame.to_ndarray(format="bgr24"), self._turns))

    def faces(self, tracker: Tracker, time: float) -> list[Face]:
        frame = self._frame
        planes = tuple(np.rot90(_plane(plane), self._turns) for plane in frame.planes[:3])
        # Values of FFmpeg's AVColorSpace and AVColorRange. A stream that does not say is taken for
        # what it is by custom: BT.601 up to 576 lines.
        space = int(frame.colorspace)
        is_bt601 = frame.height <= 576 if space == 2 else space in (4, 5, 6)
        full_range = int(frame.color_range) == 2 or frame.format.name.startswith("yuvj")
        matrix: Literal["bt601", "bt709"] = "bt601" if is_bt601 else "bt709"
        return tracker.process(planes, time, format="i420", matrix=matrix, full_range=full_range)


def _plane(plane: Any) -> Pixels:
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]


def video(
    source: Source, *, tracker: Tracker | None = None, **options: Any
) -> Iterator[tuple[Frame, list[Face]]]:
    """Follows the faces in a video: yields each frame with its faces.

    source : a path, a URL that FFmpeg reads, or a file opened in binary mode
    tracker : one that you made; it is reset first. Without it, a new one is made of the other
        arguments, which are those of Tracker: faces, smooth, variant …

    Needs PyAV (pip install av) or OpenCV (pip install opencv-python-headless). With PyAV the numbers
    are those of `mmface-live --file` where the video is 8-bit 4:2:0 and not interlaced.
    """
    reader = open_reader(source)
    return follow(reader, tracker_for(reader, tracker, options))


def tracker_for(reader: Reader, tracker: Tracker | None, options: dict[str, Any]) -> Tracker:
    """The tracker of a video: a new one, or the given one without what it remembers."""
    try:
        if tracker is None:
            return Tracker(**options)
        if options:
            raise Error(
                "pass a tracker or the options of a new one, not both: leave out "
                + ", ".join(options)
            )
        if not isinstance(tracker, Tracker):
            raise Error(f"tracker must be a Tracker, not {_article(type(tracker).__name__)}")
        tracker.reset()
        return tracker
    except BaseException:
        reader.close()
        raise


def follow(reader: Reader, tracker: Tracker) -> Iterator[tuple[Frame, list[Face]]]:
    """Each frame with its faces."""
    with contextlib.closing(reader):
        for frame in reader.frames():
            yield frame, frame._pixels.faces(tracker, frame.time)


def open_reader(source: Source) -> Reader:
    """Opens a video with what is installed."""
    name = _checked(source)
    if importlib.util.find_spec("av") is not None:
        return _AvReader(source, name)
    if importlib.util.find_spec("cv2") is not None:
        return _CvReader(source, name)
    raise Error(
        "reading videos needs PyAV or OpenCV: pip install av "
        "(or pass frames of your own to Tracker.process)"
    )


def _checked(source: Source) -> str:
    """The name of a source, for messages; says what is wrong with it."""
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        if not isinstance(name, str):
            raise Error(f"the path of a video must be a str, not {name!r}")
        if name == "":
            raise Error("the path of the video is empty")
        if "://" not in name:
            if "\0" in name or not os.path.exists(name):
                raise Error(f"there is no file {name!r}")
            if os.path.isdir(name):
                raise Error(f"{name!r} is a folder: name a video file")
        return name
    if not hasattr(source, "read"):
        raise Error(
            "a video is named by a path or a file opened in binary mode, "
            f"not by {_article(type(source).__name__)}"
        )
    if getattr(source, "closed", False):
        raise Error("the file of the video is closed: open it again, or pass its path")
    if isinstance(source, io.TextIOBase):
        raise Error('the file of the video is opened as text: open it with open(path, "rb")')
    return str(getattr(source, "name", "the file"))


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


class Reader:
    """Decodes on a thread of its own, a few frames ahead: Python works on one frame meanwhile."""

    #: How many frames there are, if that is known.
    total: int | None = None
    #: Frames that could not be decoded.
    damaged: int = 0

    def __init__(self, name: str) -> None:
        self.name = name
        #: The name in a progress bar.
        self.label = os.path.basename(name) or name
        self._ahead: queue.Queue[Frame | BaseException | None] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def decode(self) -> Iterator[Frame]:
        """All frames, in the order in which they are shown."""
        raise NotImplementedError

    def release(self) -> None:
        """Gives back what the reader holds."""

    def frames(self) -> Iterator[Frame]:
        """All frames, in order."""
        self._thread = threading.Thread(target=self._work, name="mmface-decode", daemon=True)
        self._thread.start()
        while True:
            item = self._ahead.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Stops decoding."""
        self._stop.set()
        if self._thread is not None:
            # Makes room for the frame with which the thread may be waiting.
            with contextlib.suppress(queue.Empty):
                while True:
                    self._ahead.get_nowait()
            self._thread.join(timeout=5)
            if self._thread.is_alive():
                return  # A network file that hangs: the thread ends with it, or with the program.
        self.release()

    def _work(self) -> None:
        end: BaseException | None = None
        try:
            for frame in self.decode():
                self._put(frame)
                if self._stop.is_set():
                    return
        except Error as why:
            end = why
        except Exception as why:
            end = Error(f"cannot read {self.name} to its end ({_reason(why)})")
        self._put(end)

    def _put(self, item: Frame | BaseException | None) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                return self._ahead.put(item, timeout=0.1)


def _reason(why: BaseException) -> str:
    """An exception's text on one line."""
    text = getattr(why, "strerror", None) or str(why) or type(why).__name__
    return " ".join(str(text).split())


class _AvReader(Reader):
    """Reads with PyAV, FFmpeg's own decoders."""

    def __init__(self, source: Source, name: str) -> None:
        super().__init__(name)
        import av

        self._damage = av.error.InvalidDataError
        self._container: Any
        try:
            self._container = av.open(os.fspath(source) if isinstance(source, os.PathLike) else source)
        except Exception as why:
            raise Error(f"cannot read {name} as a video ({_reason(why)})") from None
        if not self._container.streams.video:
            self._container.close()
            raise Error(f"{name} holds no video")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.total = self._stream.frames or None

    def decode(self) -> Iterator[Frame]:
        number, last = 0, -1.0
        for frame in self._decoded():
            step = 1 / float(self._stream.average_rate or 25)
            time = _seconds(frame) if frame.pts is not None else last + step
            # Times that repeat or run back are damage of the container.
            time = time if time > last else last + 1e-3
            yield Frame(number, time, self._pixels(frame))
            number, last = number + 1, time
        if number == 0:
            raise Error(f"{self.name} holds no video that can be decoded")

    def _decoded(self) -> Iterator[Any]:
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except self._damage:
                self.damaged += 1
                continue
            yield from frames

    def _pixels(self, frame: Any) -> _Pixels:
        ratio = self._stream.sample_aspect_ratio or 1
        wide = max(1, round(frame.width * ratio))
        if wide != frame.width or frame.format.name not in ("yuv420p", "yuvj420p"):
            frame = frame.reformat(width=wide, format="yuv420p")
        return _Yuv(frame, round(getattr(frame, "rotation", 0) / 90) % 4)

    def release(self) -> None:
        self._container.close()


def _seconds(frame: Any) -> float:
    """A frame's time, cut to nanoseconds: what GStreamer, and so mmface-live, computes with."""
    base = frame.time_base
    return int(frame.pts * base.numerator * 1_000_000_000 // base.denominator) / 1e9


class _CvReader(Reader):
    """Reads with OpenCV."""

    def __init__(self, source: Source, name: str) -> None:
        super().__init__(name)
        if not isinstance(source, (str, os.PathLike)):
            raise Error("OpenCV reads videos by their path only: pass the path, or pip install av")
        self._cv2: Any = importlib.import_module("cv2")
        self._capture = self._cv2.VideoCapture(os.fspath(source))
        if not self._capture.isOpened():
            raise Error(f"cannot read {name} as a video")
        self.total = int(self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT)) or None

    def decode(self) -> Iterator[Frame]:
        rate = self._capture.get(self._cv2.CAP_PROP_FPS) or 25.0
        number, last = 0, -1.0
        while True:
            there, pixels = self._capture.read()
            if not there:
                break
            time = self._capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1e3
            time = time if time > last else last + 1 / rate
            yield Frame(number, time, _Bgr(pixels))
            number, last = number + 1, time
        if number == 0:
            raise Error(f"{self.name} holds no video that can be decoded")

    def release(self) -> None:
        self._capture.release()
