"""What several tests need."""

import os
import pathlib
from collections.abc import Iterator

import av
import mmface
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
MEDIA = ROOT / "vendor" / "media"


def pixels(name: str) -> np.ndarray:
    """A picture in RGB."""
    with av.open(str(MEDIA / name)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """A face: RGB, 512×512."""
    return pixels("astronaut.png")


@pytest.fixture(scope="session")
def clip() -> pathlib.Path:
    """72 frames of a face, 640×360."""
    return MEDIA / "single_face.mp4"


@pytest.fixture
def stills() -> mmface.Tracker:
    """A tracker of pictures."""
    return mmface.Tracker(mode="stills")


@pytest.fixture
def program() -> Iterator[pathlib.Path]:
    """mmface-live, where it is built; `make test` wants it, `make python` alone can do without."""
    named = os.environ.get("MMFACE_PROGRAM")
    builds = [ROOT / "target" / kind / "mmface-live" for kind in ("release", "debug")]
    there = [path for path in builds if path.is_file()]
    if named:
        assert pathlib.Path(named).is_file(), f"MMFACE_PROGRAM names {named}, which is missing"
        yield pathlib.Path(named)
    elif there:
        yield max(there, key=lambda path: path.stat().st_mtime)
    else:
        pytest.skip("mmface-live is not built: run 'cargo build', or name it in MMFACE_PROGRAM")
