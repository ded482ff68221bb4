"""What the documentation shows works, and is typed as it says."""

import pathlib
import re
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from conftest import MEDIA, ROOT

HERE = pathlib.Path(__file__).parent


def snippets():
    for page in (ROOT / "docs" / "python.md", HERE.parent / "README.md"):
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.S)):
            # Code for others' programs is marked so.
            if "# not run by the tests" not in code:
                yield pytest.param(code, id=f"{page.name}-{number}")


@pytest.mark.parametrize("code", list(snippets()))
def test_examples_in_the_docs(code, tmp_path, monkeypatch):
    for name, source in [("talk.mp4", "single_face.mp4"), ("portrait.png", "astronaut.png")]:
        (tmp_path / name).symlink_to(MEDIA / source)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs", "exec"), {})


def test_the_notebook(tmp_path):
    [path] = (HERE.parent / "examples").glob("*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not committed"
    (tmp_path / "talk.mp4").symlink_to(MEDIA / "single_face.mp4")
    (tmp_path / "portrait.png").symlink_to(MEDIA / "astronaut.png")
    client = NotebookClient(notebook, timeout=180, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    plots = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(plots) >= 3
    # To look at: what the last run drew.
    nbformat.write(notebook, HERE.parent / "target" / "notebook.ipynb")


def test_the_stubs_describe_the_module():
    command = [sys.executable, "-m", "mypy.stubtest", "mmface", "--ignore-disjoint-bases"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_typed_program_passes(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import mmface\n"
        "from mmface import Face, Frame\n\n"
        "def weight(face: Face, name: str) -> float:\n"
        "    return face.expression[name] + face.expression.get(name, 0.0) + float(face.r[1])\n\n"
        "tracker = mmface.Tracker(faces=2, smooth='light')\n"
        "for frame, faces in mmface.video('talk.mp4', tracker=tracker):\n"
        "    time: float = frame.time\n"
        "    for face in faces:\n"
        "        print(weight(face, 'jawOpen'), tracker.process(frame.bgr, time))\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", str(program)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout
    program.write_text("import mmface\nmmface.Tracker(smooth='much')\n")
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert "much" in result.stdout and result.returncode == 1
