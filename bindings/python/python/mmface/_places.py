"""Where the files lie that the compiled half needs."""

import importlib.metadata
import importlib.util
import os
import pathlib

from ._mmface import Error

_DATA = pathlib.Path(__file__).parent / "data"


def models() -> str:
    """The folder with networks and face model."""
    return _present(_DATA / "models")


def detector() -> str:
    """The face detector's network."""
    return _present(_DATA / "centerface.onnx")


def openvino() -> str:
    """The folder with OpenVINO's libraries: $MMFACE_OPENVINO, else that of the package openvino."""
    named = os.environ.get("MMFACE_OPENVINO")
    if named:
        return named
    try:
        # Finds the package without importing it, which would take longer than all the rest.
        spec = importlib.util.find_spec("openvino")
    except (ImportError, ValueError):
        spec = None
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    for place in places:
        libraries = pathlib.Path(place) / "libs"
        if libraries.is_dir():
            return str(libraries)
    raise Error(f"OpenVINO, which runs the networks, is not installed: pip install {_requirement()}")


def _requirement() -> str:
    """What the package asks for, such as openvino==2026.4.1."""
    try:
        wanted = importlib.metadata.requires("mmface") or []
    except importlib.metadata.PackageNotFoundError:
        wanted = []
    return next((one for one in wanted if one.startswith("openvino")), "openvino")


def _present(path: pathlib.Path) -> str:
    if not path.exists():
        raise Error(
            f"{path} is missing in the package: "
            "install it again with pip install --force-reinstall mmface"
        )
    return str(path)
