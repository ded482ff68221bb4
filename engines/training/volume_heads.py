"""Trains the volume heads of 128 and 192 on the frozen features of a trained checkpoint.

Each starts as the head of 64, its slices interpolated in depth, so minutes are enough. Writes --out: a dict
{resolution: state dict of VolumeHead}, which evaluate.py and export.py take as --heads.

    python volume_heads.py --checkpoint runs/long/last.pt --out runs/long/heads.pt --minutes 6
"""

import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import losses
from data import Samples, argument_parser, load, row_weights
from networks import VolumeHead, fast, load_trained

RESOLUTIONS = (128, 192)
BATCH = 8
RATE = 2e-3


def head_from(small, resolution):
    """The head of 64 as one of `resolution`: slice k of r lies at depth (k + .5) / r of the way."""
    head = VolumeHead(resolution)
    with torch.no_grad():
        weight = small.slices.weight[:, :, 0, 0].T[None]  # [1,features,64]
        grow = lambda x: F.interpolate(x, size=resolution, mode="linear", align_corners=False)
        head.slices.weight.copy_(grow(weight)[0].T[:, :, None, None])
        head.slices.bias.copy_(grow(small.slices.bias[None, None])[0, 0])
    return head


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=6, help="for each resolution")
    options = parser.parse_args()

    face_model, fits, pictures = load(options)
    targets = losses.Targets(face_model, fits, options.work)
    rows = np.flatnonzero(fits.split == "train")
    model = load_trained(options.checkpoint).requires_grad_(False)

    heads = {}
    for resolution in RESOLUTIONS:
        samples = Samples(pictures, fits, rows, row_weights(fits, rows, face_model.expression_names), seed=resolution,
                          damaged=0.6)
        loader = iter(torch.utils.data.DataLoader(samples, batch_size=BATCH, num_workers=1))
        head = head_from(model.volume, resolution)
        optimiser = torch.optim.Adam(head.parameters(), lr=RATE)
        began, step, total = time.time(), 0, 0.0
        while (progress := (time.time() - began) / (60 * options.minutes)) < 1:
            image, row, affine, presence = next(loader)
            with torch.no_grad(), fast():
                features = model.vmn(image.contiguous(memory_format=torch.channels_last))
            solid = losses.solid(targets, row, affine, presence.float(), resolution)
            loss = F.binary_cross_entropy_with_logits(head(features.float()), solid.float())
            optimiser.zero_grad()
            loss.backward()
            optimiser.param_groups[0]["lr"] = RATE * min(1, (step + 1) / 20) * (1 - progress) + 1e-6
            optimiser.step()
            step, total = step + 1, total + loss.item()
            if step % 20 == 0:
                print(f"{resolution}: {step * BATCH} samples, cross-entropy {total / 20:.4f}", flush=True)
                total = 0.0
        heads[resolution] = head.state_dict()
    torch.save(heads, options.out)


if __name__ == "__main__":
    main()
