"""Trains VMN, PMN and the volume head together. Stops at --until (wall clock) or --samples, fully annealed; resumable.

The learning rate is a cosine over whichever runs out first, so a run on shared cores still ends where it should.
One single-threaded process per core, gradients averaged between them: on shared cores this is several times faster than
one process with many threads, which wait for each other in every layer.

    make train UNTIL=17:25   # the same as the next line, with a malloc that is a fifth faster
    torchrun --nproc-per-node 2 train.py --out runs/long --until 17:25
    torchrun --nproc-per-node 2 train.py --out runs/longer --weights runs/long/last.pt --until 03:00 --rate 8e-4
    torchrun --nproc-per-node 2 train.py --variant mmface-nano --out runs/nano --weights ../mmface-nano --teacher ../mmface-lite --until 18:05
"""

import copy
import datetime
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

import losses
from data import MADE, Samples, argument_parser, load, row_weights, shares
from distil import Alike, Teacher, taught
from evaluate import validate
from muon import Muon
from networks import DESCRIPTIONS, Layers, MMFace, VolumeHead, fast, load_checkpoint

BATCH = 32  # of all processes together
CHECK, SAVE = 300, 50  # steps between two looks at the validation pictures; between two checkpoints and lines of the log
WARM_UP, WARM_UP_AGAIN = 300, 60  # steps, from nothing and from old weights
AVERAGE = 0.998  # of the weights; faster at first


def seconds_until(clock):
    now = datetime.datetime.now()
    end = now.replace(hour=int(clock[:2]), minute=int(clock[3:]), second=0)
    return (end - now).total_seconds() % 86400


def early_head(model, channels):
    """The volume from the first hourglass, so that the second begins from one: only in training (Newell et al., "Stacked
    hourglass networks", ECCV 2016, intermediate supervision). Begun as nothing, so it can join trained weights."""
    head = VolumeHead(model.volume.resolution, channels)
    torch.nn.init.zeros_(head.slices.weight)
    torch.nn.init.zeros_(head.slices.bias)
    return head


def optimisers_of(model, early, rate):
    """Muon for the matrices inside; AdamW for what reads the picture, gives the outputs, shifts and scales."""
    ends = {model.vmn.stem[0][0].weight, model.volume.slices.weight,
            *(head[-1].weight for head in (model.pmn.identity, model.pmn.expression, model.pmn.pose, model.pmn.presence))}
    if model.pmn.points:
        ends |= {model.pmn.points.maps[-1].weight, model.pmn.together[-1].weight}
    inside = [p for p in model.parameters() if p.ndim > 1 and p not in ends]
    plain = [p for p in model.parameters() if p.ndim <= 1 or p in ends] + [*early.parameters()]
    return [Muon(inside, lr=rate, weight_decay=1e-4),
            torch.optim.AdamW(plain, lr=rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)]


class Average:
    """Exponential moving average of weights and of the norms' buffers."""

    def __init__(self, model):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.steps = 0

    @torch.no_grad()
    def update(self, model):
        self.steps += 1
        keep = min(AVERAGE, (1 + self.steps) / (10 + self.steps))
        mine, theirs = self.model.state_dict(), model.state_dict()
        moving = [k for k in mine if mine[k].is_floating_point()]
        torch._foreach_lerp_([mine[k] for k in moving], [theirs[k].detach() for k in moving], 1 - keep)


class Gradients:
    """Those of all parameters in one row of numbers, averaged over all processes without copying them together."""

    def __init__(self, parameters):
        self.flat = torch.zeros(sum(p.numel() for p in parameters) + 1)
        for p, part in zip(parameters, self.flat[:-1].split([p.numel() for p in parameters])):
            p.grad = part.as_strided(p.shape, p.stride())  # laid out as the weights are

    def share(self, progress):
        """Returns the first process's progress, so that all stop together."""
        self.flat[-1] = progress * (dist.get_rank() == 0)
        dist.all_reduce(self.flat)
        progress = self.flat[-1].item()
        self.flat /= dist.get_world_size()
        return progress


def freeze_large(model, numbers):
    """Weights of that many numbers or more, and the scales of the norms that fold into them, learn nothing."""
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.numel() < numbers)
    for layers in (m for m in model.modules() if isinstance(m, Layers)):
        for layer, norm in zip(layers, layers[1:]):
            if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm) and not layer.weight.requires_grad:
                norm.weight.requires_grad_(False)


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--variant", default="mmface-lite", choices=DESCRIPTIONS)
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and the log")
    parser.add_argument("--weights", type=Path, help="checkpoint, or the folder that ships (mmface-lite), to go on from with a fresh "
                        "schedule; batch normalisation then keeps its running statistics")
    parser.add_argument("--until", help="HH:MM, local time")
    parser.add_argument("--samples", type=int, default=10**9)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--damaged", type=float, default=0.6, help="share of crops that are blurred, covered, …; the "
                        "last quarter of a run does better with less")
    parser.add_argument("--without", choices=("volume", "parameters"), help="for paired runs: this metric teaches nothing "
                        "(parameters: all but volume and presence)")
    parser.add_argument("--sides", type=float, default=0.0, help="weight of the loss of what differs between left and right")
    parser.add_argument("--shares", type=shares, default=MADE, help="of the samples, for example sided=0.1,posed=0.1,warped=0.2: "
                        "heads and photos whose faces do what photographs seldom show, of turn.py and warp.py")
    parser.add_argument("--others", type=float, default=1.0, help="weight of the expressions that avatars need least (data.AVATAR "
                        "weigh 4): more, where made heads show them")
    parser.add_argument("--late", action="store_true", help="only the second hourglass and what follows it learn, half "
                        "as fast again: for short runs from old weights")
    parser.add_argument("--below", type=int, default=10**9, help="only weights of fewer numbers learn: git keeps every version, "
                        "and of such a set only what changed")
    parser.add_argument("--teacher", type=Path, help="folder that ships, of a larger variant: what it says of the crops is taught, "
                        "besides the labels (distil.py)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--note", default="")
    options = parser.parse_args()

    dist.init_process_group("gloo", timeout=datetime.timedelta(hours=1))
    rank, batch = dist.get_rank(), BATCH // dist.get_world_size()
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    if rank > 0:
        dist.barrier()  # the first process decodes the pictures
    face_model, fits, pictures = load(options)
    if rank == 0:
        dist.barrier()
    targets = losses.Targets(face_model, fits, options.work, options.sides, options.shares, options.others)
    rows = np.flatnonzero(fits.split == "train")
    validation = np.flatnonzero((fits.split == "validation") & fits.hand[:fits.count])

    model = MMFace(DESCRIPTIONS[options.variant])
    model.vmn.to(memory_format=torch.channels_last)
    model.pmn.volume.to(memory_format=torch.channels_last_3d)
    average, early = Average(model), early_head(model, DESCRIPTIONS[options.variant].hourglass)
    alike, teacher = Alike(), Teacher(options.teacher, batch) if options.teacher else None
    beside = torch.nn.ModuleList([early, alike] if teacher else [early])
    optimisers = optimisers_of(model, beside, options.rate)
    step, spent, trained_before = 0, 0.0, 0
    resumed = (options.out / "last.pt").exists()
    begin = options.out / "last.pt" if resumed else options.weights
    if begin:
        start = load_checkpoint(begin)
        model.load_state_dict(start["model"])
        average.model.load_state_dict(start["average"])
        average.steps = start["step"]
        trained_before = start["trained_before"] if resumed else start["samples"]
        if start["variant"] != options.variant:
            parser.error(f"{begin} holds weights of {start['variant']}: name it with --variant")
        if resumed:
            step, spent = start["step"], start["spent"]
            alike.load_state_dict(start.get("alike", alike.state_dict()))
            early.load_state_dict(start["early"])
            for optimiser, state in zip(optimisers, start["optimisers"]):
                optimiser.load_state_dict(state)
    budget = spent + seconds_until(options.until) if options.until else math.inf

    loader = torch.utils.data.DataLoader(
        Samples(pictures, fits, rows, row_weights(fits, rows, face_model.expression_names, options.shares),
                seed=1000 * options.seed + trained_before + step + rank, damaged=options.damaged),
        batch_size=batch, num_workers=1, prefetch_factor=8, persistent_workers=True)
    began, logged, sums = time.time() - spent, time.time(), {}
    freeze_large(model, options.below)
    if options.late:
        for module in (model.vmn.stem, model.vmn.hourglasses[0], model.vmn.after[0], model.vmn.merge):
            module.requires_grad_(False)
    parameters = [p for p in (*model.parameters(), *beside.parameters()) if p.requires_grad]
    gradients = Gradients(parameters)
    warm_up = WARM_UP_AGAIN if options.weights else WARM_UP
    progress = 0.0

    def save(name):
        torch.save({"variant": options.variant, "model": model.state_dict(), "early": early.state_dict(),
                    "alike": alike.state_dict(), "average": average.model.state_dict(),
                    "optimisers": [o.state_dict() for o in optimisers], "step": step, "spent": time.time() - began,
                    "samples": trained_before + step * BATCH, "trained_before": trained_before,
                    "pictures": len(rows), "note": options.note}, options.out / (name + ".tmp"))
        (options.out / (name + ".tmp")).rename(options.out / name)

    def check(full=False):
        chosen = validation if full else validation[::3]
        result = validate(average.model, targets, fits, pictures, chosen)
        line = {"clock": datetime.datetime.now().strftime("%H:%M:%S"), "samples": trained_before + step * BATCH,
                **result}
        with open(options.out / "curve.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)

    model.train()
    if options.weights:  # the PMN's last norm has one value a crop: in training the other crops would shake every pose
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
    for image, row, affine, presence in loader:
        if progress >= 1:
            break
        rate = options.rate * min(1, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-6
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = rate
        with fast():
            first, features = model.vmn.stages(image.contiguous(memory_format=torch.channels_last))
            outputs, volumes = model.pmn(features), (model.volume(features), early(first))
        parts = losses.losses(targets, outputs, row, affine, presence.float(), volumes)
        if teacher:
            its, *theirs = teacher(image)
            parts |= taught(targets, alike, outputs, theirs, (features, its), volumes[0], teacher.volume, row, affine, presence.float())
        if options.without:  # weighed by nothing, so that every parameter has its gradient
            kept = ({"volume", "early", "presence"} if options.without == "parameters" else parts.keys() - {"volume", "early"})
            parts = {name: value * (name in kept) for name, value in parts.items()}
        gradients.flat.zero_()
        sum(parts.values()).backward()
        progress = gradients.share(max((time.time() - began) / budget, step * BATCH / options.samples))
        if not torch.isfinite(torch.nn.utils.clip_grad_norm_(parameters, 1.0)):
            print("a gradient is not finite: step left out", flush=True)
            continue
        for optimiser in optimisers:
            optimiser.step()
        average.update(model)
        step += 1
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if rank == 0 and step % SAVE == 0:
            save("last.pt")
            speed = SAVE * BATCH / (time.time() - logged)
            print(f"{trained_before + step * BATCH} samples, {speed:.1f}/s, rate {rate:.1e}, " +
                  ", ".join(f"{k} {v / SAVE:.3f}" for k, v in sums.items()), flush=True)
            logged, sums = time.time(), {}
        if rank == 0 and step % CHECK == 0:
            check()
            logged = time.time()
    if rank == 0:
        save("last.pt")
        check(full=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
