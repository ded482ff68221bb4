"""Goes a part of the way from one checkpoint's averaged weights to those of another that was trained on from it.

What a short, strong training learns stays, and what it forgets comes back (Wortsman et al., "Robust fine-tuning of zero-shot
models", CVPR 2022). Writes --out, a checkpoint for evaluate.py and export.py.

    python blend.py --start runs/long/last.pt --end runs/expression/last.pt --part 0.8 --out runs/blend/last.pt
"""

import argparse
from pathlib import Path

import torch

from networks import load_checkpoint


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--end", type=Path, required=True)
    parser.add_argument("--part", type=float, required=True, help="0: the start, 1: the end")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    start, end = load_checkpoint(options.start)["average"], load_checkpoint(options.end)
    average = {name: torch.lerp(start[name], value, options.part) if value.is_floating_point() else value
               for name, value in end["average"].items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**end, "average": average}, options.out)


if __name__ == "__main__":
    main()
