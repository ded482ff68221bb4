from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict, TypeVar, final, overload

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float32]
_Numbers = Sequence[float] | npt.NDArray[np.floating[Any]]
_Pixels = npt.NDArray[np.uint8]
_Path = str | PathLike[str]
_T = TypeVar("_T")

__all__ = [
    "Error",
    "Expression",
    "Face",
    "FaceModel",
    "CameraPose",
    "Gaze",
    "Look",
    "Mesh",
    "Raw",
    "Tracker",
    "__version__",
    "face_model",
]

__version__: str

class Error(Exception): ...

class _RawDict(TypedDict):
    f: float
    r: list[float]
    t: list[float]
    identity: list[float]
    expression: list[float]

class _LookDictRequired(TypedDict):
    direction: list[float]
    angles: list[float]
    confidence: float

class _LookDict(_LookDictRequired, total=False):
    iris: list[float]

class _GazeDict(TypedDict):
    left: _LookDict
    right: _LookDict
    both: _LookDict

class _FaceDictRequired(TypedDict):
    id: int
    confidence: float
    box: list[float]
    f: float
    r: list[float]
    q: list[float]
    t: list[float]
    identity: list[float]
    expression: list[float]

class _FaceDict(_FaceDictRequired, total=False):
    landmarks: list[list[float]]
    landmarks3d: list[list[float]]
    gaze: _GazeDict
    vertices: list[list[float]]
    raw: _RawDict

@final
class Expression(Mapping[str, float]):
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __getitem__(self, name: str, /) -> float: ...
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]: ...
    @overload
    def get(self, name: str, default: None = None) -> float | None: ...
    @overload
    def get(self, name: str, default: float | _T) -> float | _T: ...

@final
class Raw:
    @property
    def f(self) -> float: ...
    @property
    def r(self) -> _Floats: ...
    @property
    def q(self) -> _Floats: ...
    @property
    def t(self) -> _Floats: ...
    @property
    def identity(self) -> _Floats: ...
    @property
    def expression(self) -> Expression: ...

@final
class Look:
    @property
    def direction(self) -> _Floats: ...
    @property
    def angles(self) -> _Floats: ...
    @property
    def confidence(self) -> float: ...
    @property
    def iris(self) -> _Floats | None: ...

@final
class Gaze:
    @property
    def left(self) -> Look: ...
    @property
    def right(self) -> Look: ...
    @property
    def both(self) -> Look: ...

@final
class Face:
    @property
    def id(self) -> int: ...
    @property
    def confidence(self) -> float: ...
    @property
    def box(self) -> _Floats: ...
    @property
    def f(self) -> float: ...
    @property
    def r(self) -> _Floats: ...
    @property
    def q(self) -> _Floats: ...
    @property
    def t(self) -> _Floats: ...
    @property
    def identity(self) -> _Floats: ...
    @property
    def expression(self) -> Expression: ...
    @property
    def landmarks(self) -> _Floats: ...
    @property
    def landmarks3d(self) -> _Floats: ...
    @property
    def gaze(self) -> Gaze | None: ...
    @property
    def raw(self) -> Raw: ...
    def in_camera(
        self, size: tuple[int, int], *, fov: float | None = None, focal: float | None = None
    ) -> CameraPose: ...
    def vertices(self) -> _Floats: ...
    def to_dict(
        self, *, landmarks: bool = False, vertices: bool = False, raw: bool = False
    ) -> _FaceDict: ...

@final
class CameraPose:
    @property
    def focal(self) -> float: ...
    @property
    def r(self) -> _Floats: ...
    @property
    def q(self) -> _Floats: ...
    @property
    def t(self) -> _Floats: ...

@final
class FaceModel:
    @property
    def name(self) -> str: ...
    @property
    def hash(self) -> str: ...
    @property
    def identities(self) -> int: ...
    @property
    def expressions(self) -> list[str]: ...
    @property
    def triangles(self) -> npt.NDArray[np.uint32]: ...
    def mesh(self, face: Face) -> Mesh: ...
    def shape(
        self,
        identity: _Numbers | None = None,
        expression: Mapping[str, float] | _Numbers | None = None,
    ) -> _Floats: ...

@final
class Mesh:
    @property
    def vertices(self) -> _Floats: ...
    @property
    def triangles(self) -> npt.NDArray[np.uint32]: ...
    def save(self, path: _Path) -> None: ...

@final
class Tracker:
    def __new__(
        cls,
        faces: int = 4,
        *,
        mode: Literal["recording", "live", "stills"] = "recording",
        smooth: Literal["off", "light", "medium", "strong", "avatar"] = "medium",
        device: Literal["auto", "cpu"] = "auto",
        variant: str = "mmface-lite",
        precision: Literal["f32", "bf16", "int8"] | None = None,
        threads: int | None = None,
        detect_every: float = 1.0,
        detect_size: int | None = None,
        reidentify: float = 3.0,
        models: _Path | None = None,
    ) -> Tracker: ...
    def process(
        self,
        frame: _Pixels | Sequence[_Pixels],
        time: float | None = None,
        *,
        format: Literal["bgr", "rgb", "grey", "i420", "nv12"] | None = None,
        matrix: Literal["bt601", "bt709"] | None = None,
        full_range: bool = False,
    ) -> list[Face]: ...
    def reset(self) -> None: ...
    @property
    def mode(self) -> Literal["recording", "live", "stills"]: ...
    @property
    def faces(self) -> int: ...
    @property
    def face_model(self) -> FaceModel: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def variant(self) -> str: ...

def face_model(models: _Path | None = None) -> FaceModel: ...
