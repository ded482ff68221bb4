"""The gaze network: from a patch of each eye (eyes.py) to the middle of the iris, the two corners of the lids, and how
surely the iris is in sight. Trains on work/eyes.npz, and writes ../mmface-lite/gaze.onnx and its entry in the manifest.

    python gaze.py --steps 6000
    python gaze.py --export runs/gaze/last.pt
"""

import argparse
import copy
import math
import re
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from eyes import EYEBALL, PATCH, RAISE, SIZE, SPAN, STORED
from export import entries, fold, of_variant, round_to_half, sha256, toml_table, write_onnx
from networks import SHIPPED

POINTS = 3  # iris, outer corner, inner corner
BATCH = 192
RENDERED = 0.5  # of the samples
VARIED = 0.5  # photos whose iris lies far from the middle are drawn more often: most people look ahead
SHUT = 3.0  # eyes that are shut or hidden are drawn more often: they are rare
SHIFT, GROWTH, TURN = 0.1, 0.08, 0.07  # of the patch against the eye: eye widths, logarithm, radians; landmarks go along with lids
WILD = 0.15  # of the patches are placed twice as badly
WEIGHTS = (1.0, 0.8, 0.8)  # of the points in the loss


def block(fro, to, stride):
    return [nn.Conv2d(fro, to, 3, stride, 1, bias=False), nn.BatchNorm2d(to), nn.ReLU(inplace=True)]


class Gaze(nn.Module):
    """u8 [N,3,48,64] of left eyes -> points [N,3,2], −1…1 of the patch, and confidence [N,1] as a logit. 3.2 million
    multiply-adds an eye."""

    def __init__(self):
        super().__init__()
        rows, columns = PATCH[0] // 8, PATCH[1] // 8
        self.layers = nn.Sequential(*block(3, 12, 2), *block(12, 24, 2), *block(24, 24, 1), *block(24, 48, 2),
                                    *block(48, 40, 1))
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(40 * rows * columns, 80), nn.ReLU(inplace=True))
        self.points, self.confidence = nn.Linear(80, 2 * POINTS), nn.Linear(80, 1)

    def forward(self, patches):
        told = self.hidden(self.layers(patches.float() * (2 / 255) - 1))
        return self.points(told).reshape(-1, POINTS, 2), self.confidence(told)


class Exported(nn.Module):
    def __init__(self, gaze):
        super().__init__()
        self.gaze = gaze

    def forward(self, patches):
        points, confidence = self.gaze(patches)
        return points, torch.sigmoid(confidence)


def spoiled(random, patch):
    """What cameras, codecs and glasses do to a patch u8 [H,W,3]."""
    h, w = patch.shape[:2]
    if random.random() < 0.12:  # reflections on glasses
        for _ in range(random.integers(1, 3)):
            layer = np.zeros((h, w), np.float32)
            corners = random.uniform(0, 1, 2) * [w, h] + random.normal(0, 7, (4, 2))
            cv2.fillConvexPoly(layer, cv2.convexHull(corners.astype(np.int32)), float(random.uniform(0.2, 0.9)), cv2.LINE_AA)
            layer = cv2.GaussianBlur(layer, (0, 0), random.uniform(0.5, 3))[..., None]
            patch = (patch * (1 - layer) + random.uniform(120, 255, 3) * layer).astype(np.uint8)
    if random.random() < 0.1:  # their frames
        patch = patch.copy()
        axes = (int(random.uniform(22, 36)), int(random.uniform(14, 26)))
        middle = (int(w / 2 + random.normal(0, 6)), int(h / 2 + random.normal(0, 5)))
        cv2.ellipse(patch, middle, axes, random.normal(0, 6), 0, 360, random.uniform(0, 120, 3).tolist(),
                    int(random.integers(1, 4)), cv2.LINE_AA)
    if random.random() < 0.2:
        length = int(random.integers(2, 6))
        kernel = np.zeros((length, length), np.float32)
        angle, half = random.uniform(0, np.pi), (length - 1) / 2
        step = np.array([np.cos(angle), np.sin(angle)]) * half
        cv2.line(kernel, tuple(map(int, half - step + 0.5)), tuple(map(int, half + step + 0.5)), 1.0)
        patch = cv2.filter2D(patch, -1, kernel / max(kernel.sum(), 1))
    elif random.random() < 0.15:
        patch = cv2.GaussianBlur(patch, (0, 0), random.uniform(0.5, 1.8))
    if random.random() < 0.3:  # far away
        part = random.uniform(0.25, 0.8)
        small = cv2.resize(patch, (max(int(w * part), 8), max(int(h * part), 6)), interpolation=cv2.INTER_AREA)
        patch = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR)
    if random.random() < 0.2:
        patch = cv2.imdecode(cv2.imencode(".jpg", patch, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(25, 85))])[1], 1)
    x = np.arange(256, dtype=np.float32)[:, None] / 255
    curve = ((x ** np.exp(random.normal(0, 0.35)) - 0.5) * np.exp(random.normal(0, 0.25)) + 0.5) \
        * np.exp(random.normal(0, 0.08, 3)) + random.normal(0, 0.08)
    patch = cv2.LUT(patch, (curve * 255).clip(0, 255).astype(np.uint8)[None])
    if random.random() < 0.15:
        patch = np.repeat(patch.mean(2, keepdims=True), 3, 2).astype(np.uint8)
    if random.random() < 0.3:
        patch = cv2.add(patch, cv2.randn(np.empty(patch.shape, np.int8), 0, float(random.uniform(1, 9))), dtype=cv2.CV_8U)
    return patch


class Eyes(torch.utils.data.IterableDataset):
    """Endless random samples: patch, points, which of them are known, and 1, 0 or −1 (unknown) for an iris in sight."""

    def __init__(self, work, split, seed=0):
        self.about = dict(np.load(work / "eyes.npz"))
        self.bytes = np.memmap(work / "eyes.bin", np.uint8, "r").reshape(-1, *SIZE, 3)
        self.rows, self.seed = np.flatnonzero(self.about["split"] == split), seed
        rendered = self.about["source"][self.rows] == "rendered"
        away = self.about["points"][self.rows, 0] - self.about["points"][self.rows, 1:].mean(1)
        away = np.linalg.norm(away / (SIZE[1] / SPAN / STORED), axis=1)
        weight = np.where(rendered, 1, 1 + VARIED * np.clip(away / 0.1, 0, 4))
        # small eyes are many and say little
        weight = np.where(rendered, 1, weight * np.clip(self.about["width"][self.rows] / 24, 0.3, 1))
        weight[self.about["seen"][self.rows] == 0] *= SHUT
        for which, share in ((rendered, RENDERED), (~rendered, 1 - RENDERED)):
            weight[which] *= share / max(weight[which].sum(), 1e-9)
        self.cumulative = np.cumsum(weight / weight.sum())

    def placed(self, row, shift=(0, 0), size=1.0, turn=0.0):
        """Patch and points, shifted by eye widths, enlarged and turned."""
        c, s = math.cos(turn), math.sin(turn)
        scale = STORED * PATCH[1] / SIZE[1] / size
        linear = np.array([[c, s], [-s, c]]) * scale
        middle = np.array([SIZE[1] - 1, SIZE[0] - 1]) / 2 + np.asarray(shift) * SIZE[1] / (SPAN * STORED)
        affine = np.c_[linear, [(PATCH[1] - 1) / 2, (PATCH[0] - 1) / 2] - linear @ middle]
        patch = cv2.warpAffine(self.bytes[row], affine, (PATCH[1], PATCH[0]), flags=cv2.INTER_LINEAR)
        return patch, self.about["points"][row] @ linear.T + affine[:, 2]

    def __iter__(self):
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        random = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            row = self.rows[min(np.searchsorted(self.cumulative, random.random()), len(self.rows) - 1)]
            wild = 2 if random.random() < WILD else 1
            patch, points = self.placed(row, random.normal(0, SHIFT * wild, 2), math.exp(random.normal(0, GROWTH * wild)),
                                        random.normal(0, TURN * wild))
            taught, seen = self.about["taught"][row].copy(), self.about["seen"][row]
            if random.random() < 0.9:
                patch = spoiled(random, patch)
            if random.random() < 0.03:  # something in front of it
                patch = patch.copy()
                patch[:] = cv2.resize(self.bytes[random.integers(len(self.bytes))][:20, :20], (PATCH[1], PATCH[0]))
                taught, seen = np.zeros(POINTS, bool), 0
            yield (np.ascontiguousarray(patch.transpose(2, 0, 1)), normal(points).astype(np.float32), taught.astype(np.float32),
                   np.float32(seen))


def normal(points):
    """Patch pixels -> −1…1."""
    return (points + 0.5) / (np.array([PATCH[1], PATCH[0]]) / 2) - 1


def loss_of(network, batch):
    patches, points, taught, seen = batch
    with torch.autocast("cpu", torch.bfloat16):
        told, confidence = network(patches)
    told, confidence = told.float(), confidence.float()[:, 0]
    off = (told - points) * torch.tensor([PATCH[1] / 2, PATCH[0] / 2]) / (PATCH[1] / SPAN) * 100  # % of the eye's width
    off = off.norm(dim=-1)
    off = torch.where(off < 2, off**2 / 4 + 1, off)
    known = taught * torch.tensor(WEIGHTS)
    known[:, 0] *= seen != 0
    place = (off * known).sum() / known.sum().clamp(min=1)
    sure = F.binary_cross_entropy_with_logits(confidence, seen.clamp(min=0), reduction="none")
    return place + 8 * (sure * (seen >= 0)).sum() / (seen >= 0).sum().clamp(min=1)


@torch.no_grad()
def measure(network, eyes):
    """Median and mean distance from the labels in % of the eye's width, for photos and rendered eyes that are in sight; of the
    confidence, the share of eyes on the wrong side of a half."""
    about, result = eyes.about, {}
    for name, which in (("photos", about["source"] != "rendered"), ("rendered", about["source"] == "rendered"),
                        ("large eyes of photos", (about["source"] != "rendered") & (about["width"] > 24))):
        rows = [r for r in eyes.rows if which[r] and about["seen"][r] >= 0]
        if not rows:
            continue
        patches, points = zip(*(eyes.placed(r) for r in rows))
        told, confidence = network(torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).contiguous())
        off = np.linalg.norm((told.numpy() - normal(np.stack(points))) * np.array(PATCH[::-1]) / 2, axis=-1) * SPAN / PATCH[1] * 100
        seen = about["seen"][rows]
        iris, corner = off[seen == 1, 0], off[:, 1:][about["taught"][rows][:, 1:].astype(bool)]
        result[name] = (f"{len(rows)} eyes, iris {np.median(iris):.2f} / {iris.mean():.2f} %, corners {corner.mean():.2f} %, "
                        f"missed {100 * (confidence.numpy()[seen == 1] < 0).mean():.1f} %, "
                        f"false {100 * (confidence.numpy()[seen == 0] > 0).mean():.1f} %")
    return result


def train(options):
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    network = Gaze()
    start = torch.load(options.start, weights_only=True) if options.start else {"samples": 0}
    if options.start:
        network.load_state_dict(start["average"])
    network = network.to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    decayed = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() < 2]
    optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0}],
                                  lr=options.rate, betas=(0.9, 0.98))
    loader = torch.utils.data.DataLoader(Eyes(options.work, "train", int(time.time())), BATCH, num_workers=options.workers)
    validation = Eyes(options.work, "validation")
    started, step, sums = time.time(), 0, []
    options.out.mkdir(parents=True, exist_ok=True)
    network.train()
    for batch in loader:
        part = step / options.steps
        if part >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = options.rate * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * part)) + 1e-6
        loss = loss_of(network, batch)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5)
        optimiser.step()
        step += 1
        keep = min(0.998, step / (step + 20))
        for a, b in zip([*average.parameters(), *average.buffers()], [*network.parameters(), *network.buffers()]):
            if a.dtype.is_floating_point:
                a.data.lerp_(b.data, 1 - keep)
        sums.append(loss.item())
        if step % 200 == 0:
            print(f"{step} steps, {time.time() - started:.0f} s, loss {np.mean(sums[-200:]):.3f}", flush=True)
        if step % 500 == 0:
            print(measure(average, validation), flush=True)
            torch.save({"average": average.state_dict(), "samples": start["samples"] + step * BATCH}, options.out / "last.pt")
    torch.save({"average": average.state_dict(), "samples": start["samples"] + step * BATCH}, options.out / "last.pt")
    for name, told in measure(average, validation).items():
        print(f"{name}: {told}")


def export(checkpoint, file):
    """Writes the network of a checkpoint."""
    network = Gaze().eval()
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
    module = round_to_half(Exported(fold(network))).eval()
    example = torch.zeros(2, 3, *PATCH, dtype=torch.uint8)
    write_onnx(module, (example,), file, ["patches"], ["points", "confidence"])
    print(f"{file.name}: {file.stat().st_size / 1e3:.0f} kB")


def with_gaze(manifest, file):
    """A manifest's text with the gaze network of `file`, in every variant that ships: it reads the picture, not their features."""
    rule = f"\ngaze = {toml_table({'span': SPAN, 'eyeball': EYEBALL, 'raise': RAISE})}"
    side = lambda rows: ", ".join(toml_table({"name": n, "type": t, "shape": s}) for n, t, s in rows)
    about = "\n".join([f'file = "{file.parent.name}/{file.name}"', f'sha256 = "{sha256(file)}"',
                       f"inputs = [{side([('patches', 'u8', ['N', 3, *PATCH])])}]",
                       f"outputs = [{side([('points', 'f32', ['N', POINTS, 2]), ('confidence', 'f32', ['N', 1])])}]"])
    tables = {table: text for table, text in entries(manifest).items() if not table.endswith(".networks.gaze")}
    for variant in (v for v in SHIPPED if f"variants.{v}" in tables):
        tables[f"variants.{variant}"] = re.sub(r"\ngaze = .*", "", tables[f"variants.{variant}"]) + rule
        last = [t for t in tables if re.fullmatch(rf"variants\.{variant}\.networks\.(vmn|pmn|volume-\d+)", t)][-1]
        tables[last] += f"\n\n[variants.{variant}.networks.gaze]\n{about}"
    return "\n\n".join(tables.values()) + "\n"


def main():
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=here / "work")
    parser.add_argument("--out", type=Path, default=here / "runs/gaze")
    parser.add_argument("--engines", type=Path, default=here / "..")
    parser.add_argument("--steps", type=int, default=6000, help=f"of {BATCH} eyes")
    parser.add_argument("--start", type=Path, metavar="CHECKPOINT", help="go on from it")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--export", type=Path, metavar="CHECKPOINT", help="do not train, but write what ships")
    parser.add_argument("--enter", action="store_true", help="only enter the shipped file into the manifest again")
    options = parser.parse_args()
    file = options.engines / SHIPPED[0] / "gaze.onnx"
    if options.export:
        export(options.export, file)
    if options.export or options.enter:
        manifest = options.engines / "manifest.toml"
        manifest.write_text(with_gaze(manifest.read_text(), file))
    else:
        train(options)


if __name__ == "__main__":
    main()
