"""Trains the expression branch alone, on what the frozen networks make of crops, so minutes are enough.

Only the last --units of its hidden layer and the layer behind them learn: the first 256 were trained with everything else, and
git keeps every version of a weight that changes. The same crops are used many times over: what passes through the networks
takes the time. Writes --out, a checkpoint for evaluate.py and export.py.

    python expression_branch.py --checkpoint ../mmface-lite --out runs/expression/last.pt
"""

import copy
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import losses
from data import AVATAR, MADE, Samples, argument_parser, load, row_weights, shares
from evaluate import correlations, crop_all, teacher_scores, true_affines
from networks import fast, load_checkpoint, load_trained

UNITS = 32  # of the hidden layer
BATCH, LOOK = 256, 32  # codes in a step; crops that go through the networks at once
EPOCHS, RATE, DECAY, DROPOUT = 10, 3e-4, 0.01, 0.3
REPORT = 200  # steps


@torch.no_grad()
def codes_of(model, loader, minutes):
    """What the networks make of the loader's crops in that time: a dict of tensors, a row a crop with a face."""
    kept, began = [], time.time()
    for image, row, affine, presence in loader:
        if time.time() - began > 60 * minutes:
            break
        with fast():
            features = model.vmn(image.contiguous(memory_format=torch.channels_last))
            code, points = model.pmn.code(features)
            pose, identity, _, _, points = model.pmn.tell(code, points)
        real = presence > 0.5
        kept.append([x[real] for x in (code.half(), pose, identity, points, row, affine)])
    return dict(zip(("code", "pose", "identity", "points", "row", "affine"), map(torch.cat, zip(*kept))))


class Branch(nn.Module):
    """`pmn.expression` with the part of its hidden layer that learns, the last `units`, apart from the other, and reading codes
    of unit spread."""

    def __init__(self, branch, code, units=UNITS):
        super().__init__()
        first, _, last = copy.deepcopy(branch)
        self.mean, self.spread = code.mean(0), code.std(0) + 1e-3
        self.old = nn.Parameter(first.weight[:-units], False), nn.Parameter(first.bias[:-units], False)
        self.weight = nn.Parameter(first.weight[-units:].detach() * self.spread)
        self.bias = nn.Parameter((first.bias[-units:] + first.weight[-units:] @ self.mean).detach())
        self.last = last.requires_grad_()

    def forward(self, code):
        new = F.linear(F.dropout((code - self.mean) / self.spread, DROPOUT, self.training), self.weight, self.bias)
        return torch.sigmoid(self.last(F.relu(torch.cat([F.linear(code, *self.old), new], 1))))

    def state(self, path):
        """As `pmn.expression` has it."""
        weight = self.weight / self.spread
        return {f"{path}.0.weight": torch.cat([self.old[0], weight]),
                f"{path}.0.bias": torch.cat([self.old[1], self.bias - weight @ self.mean]),
                f"{path}.2.weight": self.last.weight, f"{path}.2.bias": self.last.bias}


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8, help="for the crops")
    parser.add_argument("--units", type=int, default=UNITS, help="of the hidden layer's 288 that learn")
    parser.add_argument("--rate", type=float, default=RATE, help="more, where more units shall learn something new")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--sides", type=float, default=0.0, help="as train.py's")
    parser.add_argument("--shares", type=shares, default=MADE, help="as train.py's")
    parser.add_argument("--note", default="")
    options = parser.parse_args()

    face_model, fits, pictures = load(options)
    targets = losses.Targets(face_model, fits, options.work, options.sides, options.shares)
    rows = np.flatnonzero(fits.split == "train")
    model = load_trained(options.checkpoint).requires_grad_(False)
    samples = Samples(pictures, fits, rows, row_weights(fits, rows, face_model.expression_names, options.shares), seed=11, damaged=0.5)
    crops = codes_of(model, torch.utils.data.DataLoader(samples, batch_size=LOOK, num_workers=1), options.minutes)
    print(f"{len(crops['row'])} crops", flush=True)

    held = np.flatnonzero((fits.split == "validation") & fits.found & (fits.source != "expressions"))
    scores = np.nanmean(teacher_scores(options.work, face_model, fits.picture[held]), 0)
    image = torch.from_numpy(np.stack(crop_all(pictures, held, true_affines(fits, held)))).permute(0, 3, 1, 2)
    with torch.no_grad(), fast():
        seen = torch.cat([model.pmn.code(model.vmn(part))[0].float() for part in image.split(LOOK)])

    branch = Branch(model.pmn.expression, crops["code"].float(), options.units).train()
    optimiser = torch.optim.AdamW(branch.parameters(), lr=options.rate, weight_decay=DECAY)
    steps, sums = options.epochs * len(crops["row"]) // BATCH, {}
    for step in range(steps):
        some = {k: v[i] for i in [torch.randint(len(crops["row"]), (BATCH,))] for k, v in crops.items()}
        outputs = some["pose"], some["identity"], branch(some["code"].float()), torch.ones(BATCH, 1), some["points"]
        parts = losses.losses(targets, outputs, some["row"], some["affine"], torch.ones(BATCH))
        optimiser.zero_grad()
        sum(parts.values()).backward()
        optimiser.param_groups[0]["lr"] = options.rate * min(1, (step + 1) / 100) * (1 - step / steps) + 1e-6
        optimiser.step()
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value.item() / REPORT
        if (step + 1) % REPORT == 0:
            with torch.no_grad():
                told = branch.eval()(seen).numpy()
            branch.train()
            print(f"{(step + 1) * BATCH} crops: " + ", ".join(f"{k} {v:.3f}" for k, v in sums.items()), flush=True)
            values = correlations(told, scores, [face_model.expression_names.index(n) for n in AVATAR])
            print("  " + ", ".join(f"{n} {v:.3f}" for n, v in zip(AVATAR, values)), flush=True)
            sums = {}

    state = load_checkpoint(options.checkpoint)
    average = state["average"] | {k: v.detach() for k, v in branch.state("pmn.expression").items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"variant": state["variant"], "average": average, "samples": state["samples"], "pictures": len(rows), "note": options.note}, options.out)


if __name__ == "__main__":
    main()
