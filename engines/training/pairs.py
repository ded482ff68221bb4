"""Trains several variants side by side on the same crops, on one GPU: what a choice of the recipe is worth.

A plan is a list of phases, one after the other; the runs of a phase see the same crops in the same order, drawn with the
phase's `shares` if it has some. Weights, where a run does not begin from nothing, are a checkpoint or the folder that ships; a
teacher is that, or an earlier run of the plan; `sides` weighs the loss of left and right:

    [{"samples": 50048, "runs": [{"name": "64"}, {"name": "96", "width": 96}]},
     {"samples": 50048, "runs": [{"name": "taught by 96", "teacher": "96"}, {"name": "by hand", "guessed": 0.2}]},
     {"samples": 180096, "runs": [{"name": "longer", "weights": "../mmface-lite", "below": 32768, "rate": 1.2e-3}]},
     {"samples": 9600, "shares": {"turned": 0.3, "sided": 0.1, "warped": 0.2},
      "runs": [{"name": "one-sided", "weights": "../mmface-lite"},
               {"name": "and their loss", "weights": "../mmface-lite", "sides": 1.0}]}]

    python pairs.py --plan plan.json --out runs/pairs --device cuda --workers 15

Prints how each run does on the validation pictures, and writes its averaged weights, as evaluate.py and export.py read them.
"""

import dataclasses
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import data
import losses
import morphable
import sides
from evaluate import crop_all, true_affines, validate
from networks import DESCRIPTIONS, MMFace, fast, load_checkpoint
from train import Average, early_head, freeze_large, optimisers_of

BATCH, RATE, WARM_UP = 128, 2.5e-3, 150  # steps; the rate is that of a run from nothing
REPORT = 50  # steps
LITE = DESCRIPTIONS["mmface-lite"]


def wide(channels):
    """mmface-lite with hourglasses, and the end of the stem, of so many channels."""
    stem = (LITE.stem[0], ("conv", 3, 2, channels), ("block", channels), ("block", channels))
    return dataclasses.replace(LITE, stem=stem, hourglass=channels)


def whole(path, device):
    """The averaged weights of a checkpoint of mmface-lite."""
    model = MMFace(LITE).to(device).eval()
    model.load_state_dict(load_checkpoint(Path(path))["average"])
    return model


class Run:
    """One variant. `guessed` is the weight of labels that no hand made, 1 that of a hand; `sides` that of what differs
    between left and right; `teacher` a network."""

    def __init__(self, name, device, width=LITE.hourglass, rate=RATE, weights=None, below=10**9, guessed=None, sides=0.0,
                 teacher=None):
        torch.manual_seed(0)
        self.name, self.device, self.rate, self.guessed, self.teacher = name, device, rate, guessed, teacher
        self.sides = sides
        self.model = MMFace(wide(width)).to(device)
        self.model.vmn.to(memory_format=torch.channels_last)
        self.model.pmn.volume.to(memory_format=torch.channels_last_3d)
        self.average, self.early = Average(self.model), early_head(self.model, width).to(device)
        self.before = 0
        if weights:
            start = load_checkpoint(Path(weights))
            self.model.load_state_dict(start["model"])
            self.average.model.load_state_dict(start["average"])
            self.before = start["samples"]  # the average begins anew: after a short run it would be that of the old weights
        self.optimisers = optimisers_of(self.model, self.early, rate)
        freeze_large(self.model, below)
        self.parameters = [p for p in (*self.model.parameters(), *self.early.parameters()) if p.requires_grad]
        self.model.train()
        if weights:  # as train.py does it
            for module in self.model.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def step(self, targets, image, row, affine, presence, rate):
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = self.rate * rate + 1e-6
        with fast(self.device):
            first, features = self.model.vmn.stages(image)
            outputs, volumes = self.model.pmn(features), (self.model.volume(features), self.early(first))
        usual, targets.sides_weight = targets.weight, self.sides
        if self.guessed is not None:
            targets.weight = torch.where(usual < 1, self.guessed, usual)
        parts = losses.losses(targets, outputs, row, affine, presence, volumes)
        targets.weight = usual
        if self.teacher:
            with torch.no_grad(), fast(self.device):
                features, *theirs = self.teacher(image)
                volume = self.teacher.volume(features)
            parts |= taught(targets, outputs, theirs, volumes[0], volume, row, affine, presence)
        sum(parts.values()).backward()
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)):
            for optimiser in self.optimisers:
                optimiser.step()
            self.average.update(self.model)


def taught(targets, outputs, theirs, volume, their_volume, row, affine, presence):
    """Losses against what a teacher says of the same crops, weighed as those against the labels are."""
    real = torch.nonzero(presence > 0.5)[:, 0]
    label = losses.to_crop(F.pad(targets.points[row[real]], (0, 1)), affine[real])[..., :2]
    percent = (100 / (label.amax(1) - label.amin(1)).prod(1).sqrt())[:, None]
    placed = lambda o: morphable.project(targets.some_vertices(torch.cat([o[1], o[2]], 1)), o[0])
    turned = lambda o: morphable.rotation(o[0][:, 1:4])
    ours, theirs = ([x.float()[real] for x in o] for o in (outputs, theirs))
    off = (placed(ours) - placed(theirs)) * percent[..., None]
    deep = off[..., 2] - off[..., 2].mean(1, keepdim=True)
    apart = (turned(ours) - turned(theirs)).square().sum((1, 2))
    return {
        "taught vertices": 4 * losses.VERTICES * (off[..., :2].abs().sum(-1) + deep.abs()).mean(),
        "taught rotation": losses.ROTATION * (apart + 1e-6).sqrt().mean(),
        "taught identity": losses.IDENTITY * (ours[1] - theirs[1]).square().mean(),
        "taught expression": losses.EXPRESSION * ((ours[2] - theirs[2]).square() * targets.expression_weight).mean(),
        "taught points": losses.POINTS * ((losses.seen(ours[4]) - losses.seen(theirs[4])).norm(dim=-1) * percent).mean(),
        "taught volume": losses.VOLUME / 2 * F.binary_cross_entropy_with_logits(
            volume.float(), torch.sigmoid(their_volume.float())),
    }


@torch.no_grad()
def look(run, targets, fits, pictures, work):
    """`validate`, and of rendered heads, through the true box: mean angle in degrees, % of voxels that differ; and how well
    left and right are told apart (sides.py: slope, correlation)."""
    model = run.average.model
    rows = np.flatnonzero((fits.split == "validation") & fits.hand[:fits.count])
    result = validate(model, targets, fits, pictures, rows)
    rows = np.flatnonzero((fits.split == "validation") & (fits.source == "turned"))
    apart, wrong = [], []
    for some in np.split(rows, range(64, len(rows), 64)) if len(rows) else ():
        crops = np.stack(crop_all(pictures, some, true_affines(fits, some)))
        with fast(run.device):
            features, pose, *_ = model(torch.from_numpy(crops).permute(0, 3, 1, 2).to(run.device))
            volume = model.volume(features)
        row = torch.from_numpy(some).to(run.device)
        affine = torch.from_numpy(true_affines(fits, some)).float().to(run.device)
        true = losses.crop_pose(targets.pose[row], affine)[0]
        cosine = ((morphable.rotation(pose.float()[:, 1:4]) * true).sum((1, 2)) - 1) / 2
        apart.append(cosine.clamp(-1, 1).acos().rad2deg())
        solid = losses.solid(targets, row, affine, torch.ones(len(some), device=run.device), volume.shape[-1])
        wrong.append(((volume > 0) ^ solid).flatten(1).float().mean(1))
    told = sides.measure(sides.seen_by(model, pictures, fits), fits, targets.model, work, most=600)
    result |= {"sides": {name: sides.brief(*both, targets.model.expression_names) for name, both in told.items()}}
    return result if not apart else result | {"rendered": [round(torch.cat(apart).mean().item(), 2), round(100 * torch.cat(wrong).mean().item(), 2)]}


def main():
    parser = data.argument_parser(__doc__)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--workers", type=int, default=8, help="processes that make crops; each makes some 400 a second")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--damaged", type=float, default=0.5)
    options = parser.parse_args()
    plan = json.loads(options.plan.read_text())
    options.out.mkdir(parents=True, exist_ok=True)

    face_model, fits, pictures = data.load(options)
    rows = np.flatnonzero(fits.split == "train")

    def crops_of(shares):
        weights = data.row_weights(fits, rows, face_model.expression_names, data.MADE | shares)
        samples = data.Samples(pictures, fits, rows, weights, seed=options.seed, damaged=options.damaged)
        crops = iter(torch.utils.data.DataLoader(samples, batch_size=options.batch, num_workers=options.workers,
                                                 prefetch_factor=4, pin_memory=options.device == "cuda"))
        next(crops)  # the workers must be there before anything is computed: they hang else
        return crops

    streams = {said: crops_of(json.loads(said)) for said in {json.dumps(phase.get("shares", {})) for phase in plan}}
    done = {}
    for phase in plan:
        runs, shares = [], phase.get("shares", {})
        crops = streams[json.dumps(shares)]
        targets = losses.Targets(face_model, fits, options.work, shares=data.MADE | shares).to(options.device)
        for said in phase["runs"]:
            teacher = said.pop("teacher", None)
            teacher = done[teacher].average.model if teacher in done else teacher and whole(teacher, options.device)
            runs.append(Run(device=options.device, teacher=teacher, **said))
        steps, began = math.ceil(phase["samples"] / options.batch), time.time()
        for step in range(steps):
            image, row, affine, presence = (x.to(options.device, non_blocking=True) for x in next(crops))
            image = image.contiguous(memory_format=torch.channels_last)
            rate = min(1, (step + 1) / min(WARM_UP, steps / 5)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            for run in runs:
                run.step(targets, image, row, affine, presence.float(), rate)
            if (step + 1) % REPORT == 0 or step + 1 == steps:
                count = (step + 1) * options.batch
                print(f"{count} samples, {count / (time.time() - began):.0f}/s", flush=True)
        for run in runs:
            run.optimisers = None
            done[run.name] = run
            count = run.before + steps * options.batch
            print(json.dumps({"run": run.name, "samples": count} | look(run, targets, fits, pictures, options.work)), flush=True)
            torch.save({"model": run.model.state_dict(), "average": run.average.model.state_dict(), "step": 10**6,
                        "samples": count, "pictures": len(rows), "note": run.name}, options.out / f"{run.name}.pt")


if __name__ == "__main__":
    main()
