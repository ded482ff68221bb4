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
from torch import nn

import data
import losses
import morphable
import sides
from evaluate import crop_all, true_affines, validate
from distil import Alike, Teacher, taught
from networks import DESCRIPTIONS, MMFace, fast, load_checkpoint, load_trained
from train import Average, early_head, freeze_large, optimisers_of

BATCH, RATE, WARM_UP = 128, 2.5e-3, 150  # steps; the rate is that of a run from nothing
REPORT = 50  # steps


def wide(variant, channels):
    """The variant with hourglasses, and the end of the stem, of so many channels; None: as it is."""
    plain = DESCRIPTIONS[variant]
    if channels is None:
        return plain
    stem = (plain.stem[0], ("conv", 3, 2, channels), ("block", channels), ("block", channels))
    return dataclasses.replace(plain, stem=stem, hourglass=channels)


class Run:
    """One variant. `guessed` is the weight of labels that no hand made, 1 that of a hand; `sides` that of what differs
    between left and right; `teacher` a network; with `alike` it teaches its features too."""

    def __init__(self, name, device, variant="mmface-lite", width=None, rate=RATE, weights=None, below=10**9, guessed=None,
                 sides=0.0, teacher=None, alike=True):
        torch.manual_seed(0)
        self.name, self.device, self.rate, self.guessed, self.teacher = name, device, rate, guessed, teacher
        self.sides, self.variant, self.same = sides, variant, alike
        self.model, self.alike = MMFace(wide(variant, width)).to(device), Alike().to(device)
        self.model.vmn.to(memory_format=torch.channels_last)
        self.model.pmn.volume.to(memory_format=torch.channels_last_3d)
        self.average, self.early = Average(self.model), early_head(self.model, self.model.vmn.merge[0].in_channels).to(device)
        self.before = 0
        if weights:
            start = load_checkpoint(Path(weights))
            self.model.load_state_dict(start["model"])
            self.average.model.load_state_dict(start["average"])
            self.before = start["samples"]  # the average begins anew: after a short run it would be that of the old weights
        beside = nn.ModuleList([self.early, self.alike])
        self.optimisers = optimisers_of(self.model, beside, rate)
        freeze_large(self.model, below)
        self.parameters = [p for p in (*self.model.parameters(), *beside.parameters()) if p.requires_grad]
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
                its, *theirs = self.teacher(image)
            said = taught(targets, self.alike, outputs, theirs, (features, its), volumes[0], self.teacher.volume, row, affine, presence)
            parts |= {name: value * (self.same or name != "taught features") for name, value in said.items()}
        sum(parts.values()).backward()
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)):
            for optimiser in self.optimisers:
                optimiser.step()
            self.average.update(self.model)


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
            if teacher in done:
                teacher = done[teacher].average.model
            elif teacher and options.device == "cpu":
                teacher = Teacher(teacher, options.batch)
            elif teacher:
                teacher = load_trained(Path(teacher)).to(options.device)
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
            torch.save({"variant": run.variant, "model": run.model.state_dict(), "average": run.average.model.state_dict(), "step": 10**6,
                        "samples": count, "pictures": len(rows), "note": run.name}, options.out / f"{run.name}.pt")


if __name__ == "__main__":
    main()
