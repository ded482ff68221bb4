"""Begins a smaller variant as a part of a trained one, so that it need not learn from nothing.

Of every layer those channels stay from which the next layers' inputs can best be made by a linear map (greedy, with the
covariances of real crops). Then, from the picture on, each layer of the smaller network is a least-squares fit: what it
makes of its own inputs shall be what the larger network has there, so errors of earlier layers are made good where they
can be. The crops are of hand-labelled training pictures. Writes --out, a checkpoint that train.py takes as --weights.

    python shrink.py --of ../mmface-lite --variant mmface-nano --out runs/shrunk/last.pt
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from int8 import cut, errors, labelled
from networks import DESCRIPTIONS, MMFace, load_checkpoint, load_trained

CROPS, CHUNK = 384, 32
PLACES = 40_000  # at which a layer is fitted
RIDGE = 1e-3  # of the mean variance of the inputs
FEW = 0.3  # the same where there are fewer samples than weights of an output


def covariance(x):
    """Of the channels [n,c,…], over everything else."""
    x = x.movedim(1, -1).flatten(0, -2)
    x = x[torch.randint(len(x), (min(len(x), PLACES),))]
    return torch.cov(x.T.double())


def reading(*layers):
    """How much convolutions or matrices [out,in,…] read of each pair of their inputs."""
    flat = [w.detach().double().movedim(1, 0).flatten(1) for w in layers]
    return sum(w @ w.T for w in flat)


def choose(count, *pairs):
    """The channels from which the rest is best made: `pairs` of covariance and `reading`, one for each place that reads them."""
    rest = [(c / (c * g).sum(), g) for c, g in pairs]
    chosen = []
    for _ in range(count):
        gain = torch.zeros(len(rest[0][0]), dtype=torch.double)
        for c, g in rest:
            gain += ((c @ g) * c).sum(1) / (c.diagonal() + 1e-9 * c.diagonal().max() + 1e-30)
        gain[chosen] = -1
        best = int(gain.argmax())
        chosen.append(best)
        rest = [(c - torch.outer(c[best], c[best]) / (c[best, best] + 1e-30), g) for c, g in rest]
    return torch.tensor(sorted(chosen))


def from_chosen(c, chosen):
    """[all,chosen]: the linear map that makes all channels of those."""
    some = c[chosen][:, chosen]
    some = some + 1e-6 * some.diagonal().mean() * torch.eye(len(chosen))
    return torch.linalg.solve(some, c[chosen]).T.float()


def folded(layers):
    """Weight and bias of a convolution with the norm behind it."""
    conv, norm = layers[0], layers[1]
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.weight * scale.view(-1, *[1] * (conv.weight.ndim - 1)), norm.bias - norm.running_mean * scale


def windows(x, kernel, stride, padding):
    """What a convolution reads at each place: a view [n,c,places…,kernel…] of the padded maps."""
    dims = x.ndim - 2
    x = F.pad(x, (padding,) * (2 * dims))
    for d in range(dims):
        x = x.unfold(2 + d, kernel, stride)
    return x


def least_squares(x, target, weight, kernel, stride=1, padding=0):
    """Weight and bias with which a convolution makes `target` of x; drawn to `weight`, the more the fewer samples there are."""
    dims = x.ndim - 2
    places = int(np.prod(target.shape[2:]))
    each = max(1, min(places, PLACES // len(x)))
    inputs, wanted = [], []
    for some, goal in zip(x.split(CHUNK), target.split(CHUNK)):
        view = windows(some, kernel, stride, padding)
        pick = torch.randperm(places)[:each]
        place = np.unravel_index(pick.numpy(), target.shape[2:])
        picked = view[(slice(None), slice(None), *map(torch.from_numpy, place))]  # [n,c,each,kernel…]
        inputs.append(picked.transpose(1, 2).flatten(0, 1).flatten(1))
        wanted.append(goal.flatten(2)[..., pick].transpose(1, 2).flatten(0, 1))
    a, b = torch.cat(inputs), torch.cat(wanted)
    middle, level = a.mean(0), b.mean(0)
    a, w = a - middle, weight.flatten(1).T
    left = b - level - a @ w
    squares = a.T @ a
    ridge = (RIDGE if len(a) > 2 * a.shape[1] else FEW) * squares.diagonal().mean()
    w = w + torch.linalg.solve(squares + ridge * torch.eye(len(squares)), a.T @ left)
    explained = 1 - ((b - level - a @ w).square().mean() / (b - level).square().mean()).item()
    return w.T.reshape(weight.shape), level - middle @ w, explained


class Shrinking:
    """`mine` is fitted to `whole`, layer by layer; maps go through both at once."""

    def __init__(self, whole, mine):
        self.whole, self.mine, self.report = whole, mine, []

    def fit(self, name, x, target, conv, start, norm=None):
        """Fits a convolution to a target; returns what it makes of x."""
        kernel, stride, padding = (v[0] if isinstance(v, tuple) else v for v in (conv.kernel_size, conv.stride, conv.padding))
        weight, bias, explained = least_squares(x, target, start, kernel, stride, padding)
        self.report.append((name, explained))
        if norm is None:
            conv.weight.copy_(weight)
            if conv.bias is not None:
                conv.bias.copy_(bias)
        else:  # a weight of the size that layers begin with, and the rest in the norm's scale
            scale = weight.flatten(1).square().mean(1).sqrt() * (3 * weight[0].numel()) ** 0.5 + 1e-6
            conv.weight.copy_(weight / scale.view(-1, *[1] * (weight.ndim - 1)))
            norm.running_mean.zero_()
            norm.running_var.fill_(1)
            norm.weight.copy_(scale)
            norm.bias.copy_(bias)
        run = F.conv2d if x.ndim == 4 else F.conv3d
        return torch.cat([run(part, weight, bias, stride, padding) for part in x.split(CHUNK)])

    def teacher(self, layers, x):
        """What the larger network's convolution and norm make of its own map."""
        weight, bias = folded(layers)
        run = F.conv2d if x.ndim == 4 else F.conv3d
        return torch.cat([run(part, weight, bias, layers[0].stride, layers[0].padding) for part in x.split(CHUNK)])

    def layers(self, name, mine, whole, x, y, into, out, active=True):
        """A convolution with its norm: x is my map, y the larger network's, of whose channels x has `into`."""
        target = self.teacher(whole, y)
        made = target.relu() if active else target
        if out is None:
            count = mine[0].weight.shape[0]
            out = lambda readers: choose(count, (covariance(made), reading(*readers)))
        chosen = out if isinstance(out, torch.Tensor) else out(self.readers)
        start = self.start(folded(whole)[0], y, into)[chosen]
        got = self.fit(name, x, target[:, chosen], mine[0], start, mine[1])
        return (got.relu() if active else got), made, chosen

    def start(self, weight, y, into):
        """The larger network's weight, where the channels that are left out are made of those that stay."""
        if into is None:
            return weight
        return torch.einsum("oi...,ij->oj...", weight, from_chosen(covariance(y), into))

    def block(self, name, mine, whole, x, y, stream):
        inner = (x, y, stream)
        for i in range(2):
            self.readers = [whole.path[i + 1][0].weight]
            inner = self.layers(f"{name}.{i}", mine.path[i], whole.path[i], *inner, None)
        after = self.teacher(whole.path[2], inner[1]) + y
        start = self.start(folded(whole.path[2])[0], inner[1], inner[2])[stream]
        got = self.fit(f"{name}.2", inner[0], after[:, stream] - x, mine.path[2][0], start, mine.path[2][1])
        return (x + got).relu(), after.relu()

    def context(self, name, mine, whole, x, y, stream):
        hidden = torch.relu(whole.gather(y))
        chosen = choose(mine.gather.out_channels, (covariance(hidden), reading(whole.spread.weight)))
        start = self.start(whole.gather.weight, y, stream)[chosen]
        got = self.fit(f"{name}.gather", x, whole.gather(y)[:, chosen], mine.gather, start).relu()
        after = whole(y)
        down = lambda m: F.pixel_unshuffle(m, m.shape[-1])
        rows = (stream[:, None] * y.shape[-1] ** 2 + torch.arange(y.shape[-1] ** 2)).flatten()
        start = self.start(whole.spread.weight, hidden, chosen)[rows]
        made = self.fit(f"{name}.spread", got, down(after[:, stream] - x), mine.spread, start)
        return x + mine.place(made), after

    def hourglass(self, name, mine, whole, x, y, stream):
        low = self.block(f"{name}.down", mine.down, whole.down, F.max_pool2d(x, 2), F.max_pool2d(y, 2), stream)
        if isinstance(mine.below, nn.Sequential):
            low = self.block(f"{name}.bottom", mine.below[0], whole.below[0], *low, stream)
            low = self.context(f"{name}.context", mine.below[1], whole.below[1], *low, stream)
        else:
            low = self.hourglass(f"{name}.below", mine.below, whole.below, *low, stream)
        low = self.block(f"{name}.up", mine.up, whole.up, *low, stream)
        beside = self.block(f"{name}.beside", mine.beside, whole.beside, x, y, stream)
        return tuple(b + F.interpolate(m, scale_factor=2.0, mode="nearest") for b, m in zip(beside, low))

    def stream(self, images):
        """The channels that the stem's end and both hourglasses keep: those that serve all blocks which read them."""
        vmn, seen, hooks = self.whole.vmn, [], []
        reads = [m.path[0] for m in vmn.modules() if hasattr(m, "path")] + [a[1] for a in vmn.after]
        for layers in reads:
            hooks.append(layers.register_forward_pre_hook(
                lambda m, given: seen.append((covariance(given[0]), reading(folded(m)[0])))))
        vmn(images)
        for hook in hooks:
            hook.remove()
        return choose(self.mine.vmn.merge[0].out_channels, *seen)

    def vmn(self, images):
        mine, whole = self.mine.vmn, self.whole.vmn
        stream = self.stream(images[:CHUNK])
        x = y = (images.float() - 127.5) / 64
        self.readers = [whole.stem[1][0].weight]
        x, y, into = self.layers("stem.0", mine.stem[0], whole.stem[0], x, y, None, None)
        x, y, _ = self.layers("stem.1", mine.stem[1], whole.stem[1], x, y, into, stream)
        blocks = list(zip(mine.stem[2:], whole.stem[2:]))
        for i, (a, b) in enumerate(blocks):
            x, y = self.block(f"stem.{i + 2}", a, b, x, y, stream)
        if len(mine.stem) < len(whole.stem):
            for layer in whole.stem[len(mine.stem):]:
                y = torch.cat([layer(part) for part in y.split(CHUNK)])
        for i in range(2):
            a, b = self.hourglass(f"hourglass {i}", mine.hourglasses[i], whole.hourglasses[i], x, y, stream)
            a, b = self.block(f"after {i}", mine.after[i][0], whole.after[i][0], a, b, stream)
            self.readers = [whole.merge[0].weight if i == 0 else whole.features.weight]
            a, b, kept = self.layers(f"after {i}.1", mine.after[i][1], whole.after[i][1], a, b, stream, None)
            if i == 0:
                target = self.teacher(whole.merge, b) + y
                start = self.start(folded(whole.merge)[0], b, kept)[stream]
                x = x + self.fit("merge", a, target[:, stream] - x, mine.merge[0], start, mine.merge[1])
                y = target
        features = torch.cat([whole.features(part) for part in b.split(CHUNK)])
        return self.fit("features", a, features, mine.features, self.start(whole.features.weight, b, kept)), features

    def pmn(self, x, y):
        mine, whole = self.mine.pmn, self.whole.pmn
        code, truth, into = x.unsqueeze(1), y.unsqueeze(1), None
        for i in range(0, len(whole.volume), 3):
            following = whole.volume[i + 3].weight if i + 3 < len(whole.volume) else torch.cat(
                [head[0].weight[:, :whole.volume[i].out_channels] for head in
                 (whole.identity, whole.expression, whole.pose, whole.presence, whole.together)])
            self.readers = [following]
            code, truth, into = self.layers(f"pmn {i // 3}", mine.volume[i:i + 3], whole.volume[i:i + 3], code, truth, into, None)
        code, truth = code.flatten(1), truth.flatten(1)

        sights = torch.cat([whole.points.maps[0](part) for part in y.split(CHUNK)])
        kept = choose(mine.points.maps[0].out_channels, (covariance(sights.relu()),
                                                         reading(whole.points.maps[2].weight, whole.points.looks.weight)))
        got = self.fit("sights", x, sights[:, kept], mine.points.maps[0], whole.points.maps[0].weight[kept]).relu()
        sights = sights.relu()
        for name, a, b in (("maps", mine.points.maps[2], whole.points.maps[2]), ("looks", mine.points.looks, whole.points.looks)):
            self.fit(name, got, torch.cat([b(part) for part in sights.split(CHUNK)]), a, self.start(b.weight, sights, kept))
        seen, true_seen = ([torch.cat(p, 1) for part in m.split(CHUNK) for p in [net.points(part)]]
                           for net, m in ((mine, x), (whole, y)))
        x = torch.cat([code, torch.cat(seen)], 1)[..., None, None]
        y = torch.cat([truth, torch.cat(true_seen)], 1)[..., None, None]
        wide = truth.shape[1]
        both = torch.cat([into, torch.arange(wide, y.shape[1])])
        for name in ("identity", "expression", "pose", "presence", "together"):
            a, b = getattr(mine, name), getattr(whole, name)
            hidden = F.linear(y[..., 0, 0], b[0].weight, b[0].bias)
            kept = torch.arange(len(a[0].weight))
            if len(kept) < hidden.shape[1]:
                kept = choose(len(kept), (covariance(hidden.relu()), reading(b[2].weight)))
            start = torch.cat([b[0].weight[:, :wide] @ from_chosen(covariance(truth), into), b[0].weight[:, wide:]], 1)[kept]
            layer = nn.Conv2d(len(both), len(kept), 1)
            self.fit(name, x, hidden[:, kept, None, None], layer, start[..., None, None])
            a[0].weight.copy_(layer.weight[..., 0, 0])
            a[0].bias.copy_(layer.bias)
            a[2].weight.copy_(self.start(b[2].weight, hidden.relu(), kept) if len(kept) < hidden.shape[1] else b[2].weight)
            a[2].bias.copy_(b[2].bias)


@torch.no_grad()
def main():
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, default=here / "../../../shared/faces")
    parser.add_argument("--of", type=Path, default=here / "../mmface-lite", help="checkpoint or folder that ships")
    parser.add_argument("--variant", default="mmface-nano", choices=DESCRIPTIONS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=CROPS)
    options = parser.parse_args()
    torch.manual_seed(0)

    random, training = np.random.default_rng(0), list(labelled(options.faces, "train"))
    crops, _ = cut([training[i] for i in random.permutation(len(training))[:options.crops]], random)
    images = torch.from_numpy(crops)
    whole, mine = load_trained(options.of), MMFace(DESCRIPTIONS[options.variant]).eval()
    shrinking, began = Shrinking(whole, mine), time.time()
    x, y = shrinking.vmn(images)
    shrinking.pmn(x, y)
    mine.volume.load_state_dict(whole.volume.state_dict())
    for name, explained in shrinking.report:
        print(f"{name}: {100 * explained:.1f} % of the variance")
    print(f"{time.time() - began:.0f} s", flush=True)

    options.out.parent.mkdir(parents=True, exist_ok=True)
    weights = mine.state_dict()
    torch.save({"variant": options.variant, "model": weights, "average": weights, "step": 0, "samples": 0, "pictures": 0,
                "note": f"shrunk from {load_checkpoint(options.of)['variant']}"}, options.out)
    crops, labels = cut(labelled(options.faces, "validation"))
    points = torch.cat([mine(part)[5] for part in torch.from_numpy(crops).split(CHUNK)]).unflatten(1, (-1, 2))
    print("points of {} validation pictures, errors inner and all: {:.2f} {:.2f} %".format(
        len(crops), *errors({"points": points.numpy()}, labels)))


if __name__ == "__main__":
    main()
