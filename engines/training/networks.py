"""VMN and PMN of MMFace (Yi et al., CVPR 2019, supplementary material), with widths from one description.

Shapes are N×C×(D×)H×W. The VMN turns a crop into the feature map N×64×64×64; volume heads and the PMN read that map.
"""

import functools
import math
import time
from dataclasses import dataclass

import onnx
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

FEATURES = 64  # channels, height and width of the feature map
F0 = 11.7  # crop pixels per cm of an average face; the exponent's zero
LOOKS = 8  # values beside each of `Points`
POINTS_WEIGHT = 0.5  # of `Points` beside the mesh's landmarks, on a face that looks into the camera


@dataclass(frozen=True)
class Description:
    """Everything in which the variants differ. `stem` is a list of ("conv", kernel, stride, channels),
    ("block", channels) and ("pool",), from 256×256 down to 64×64."""

    stem: tuple
    hourglass: int  # channels
    pmn: tuple  # channels of the five 3D convolutions
    identity_hidden: tuple
    expression_hidden: tuple
    pose_hidden: tuple
    presence_hidden: tuple
    context: int  # hidden values of the layer at the bottom of each hourglass; 0: none
    points: int  # places in the picture that the PMN's heads read beside its code; 0: none
    sights: int  # hidden channels of the maps that find them
    identity: int
    expression: int
    bounded: bool = True  # expressions are weights 0…1; else standard deviations, as in a PCA of expressions


DESCRIPTIONS = {
    "mmface-paper": Description(
        stem=(("conv", 7, 2, 64), ("block", 128), ("pool",), ("block", 128), ("block", 256)),
        hourglass=256, pmn=(64, 128, 256, 512, 1024), identity_hidden=(512, 256), expression_hidden=(512,),
        pose_hidden=(512,), presence_hidden=(64,), context=0, points=0, sights=0, identity=199, expression=29, bounded=False),
    "mmface-lite": Description(
        stem=(("conv", 7, 2, 24), ("conv", 3, 2, 64), ("block", 64), ("block", 64)),
        hourglass=64, pmn=(16, 32, 64, 128, 256), identity_hidden=(256,), expression_hidden=(288,),
        pose_hidden=(256,), presence_hidden=(64,), context=256, points=68, sights=64, identity=60, expression=53),
    "mmface-nano": Description(
        stem=(("conv", 7, 2, 16), ("conv", 3, 2, 32), ("block", 32)),
        hourglass=32, pmn=(8, 16, 32, 64, 128), identity_hidden=(128,), expression_hidden=(160,),
        pose_hidden=(128,), presence_hidden=(32,), context=128, points=68, sights=32, identity=60, expression=53),
}
SHIPPED = ("mmface-lite", "mmface-nano")  # what `engines` holds; the first is what the program takes by itself


@functools.cache
def bf16_is_faster(device):
    """Whether the device computes in bfloat16 and gains by it: CPUs without it emulate it fifteen times slower, and a Sapphire
    Rapids whose AMX is not to be used takes a third more time than for f32. So one convolution is timed, a tenth of a second."""
    if device == "cuda":
        return True
    able = torch.cpu.get_capabilities()
    if not any(able.get(k) for k in ("avx512_bf16", "amx_bf16", "bf16")):
        return False
    x, weight = torch.zeros(4, 64, 64, 64).to(memory_format=torch.channels_last), torch.zeros(64, 64, 3, 3)
    times = {False: [], True: []}
    for enabled in (True, False) * 8:
        began = time.perf_counter()
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=enabled):
            F.conv2d(x, weight, padding=1)
        times[enabled].append(time.perf_counter() - began)
    return min(times[True]) < min(times[False])


def fast(device="cpu"):
    """Autocast to bfloat16 where that is faster."""
    return torch.autocast(device, torch.bfloat16, enabled=bf16_is_faster(device))


class Layers(nn.Sequential):
    """In training, a batch normalisation that keeps its running statistics is computed as scale and shift of the convolution
    before it: the same sums, without two passes over the maps and two back, where the maps are larger than the weights."""

    def forward(self, x):
        layers = iter(zip(self, [*self][1:] + [None]))
        for layer, norm in layers:
            if isinstance(norm, nn.modules.batchnorm._BatchNorm) and layer.training and not norm.training \
                    and layer.weight.numel() < x.numel():
                scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
                weight = layer.weight * scale.view(-1, *[1] * (layer.weight.ndim - 1))
                x = layer._conv_forward(x, weight, norm.bias - norm.running_mean * scale)
                next(layers)
            else:
                x = layer(x)
        return x


def conv(into, out, kernel, stride=1, relu=True):
    layers = [nn.Conv2d(into, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out)]
    return Layers(*layers, *[nn.ReLU(inplace=True)] * relu)


class Block(nn.Module):
    """Residual bottleneck, as in VRN: 1×1, 3×3, 1×1 at half the channels."""

    def __init__(self, into, out):
        super().__init__()
        self.path = nn.Sequential(conv(into, out // 2, 1), conv(out // 2, out // 2, 3), conv(out // 2, out, 1, relu=False))
        self.skip = nn.Identity() if into == out else conv(into, out, 1, relu=False)

    def forward(self, x):
        return F.relu(self.path(x) + self.skip(x), inplace=True)


class Context(nn.Module):
    """Lets each place of the smallest map, N×channels×4×4, know of all others: one fully connected hidden layer, added to
    the map. Where a surface lies in depth follows from the pose of the whole head."""

    def __init__(self, channels, hidden, side=FEATURES // 16):
        super().__init__()
        self.gather = nn.Conv2d(channels, hidden, side)
        self.spread = nn.Conv2d(hidden, channels * side * side, 1)
        self.place = nn.PixelShuffle(side)
        nn.init.zeros_(self.spread.weight)  # so it can be added to trained weights
        nn.init.zeros_(self.spread.bias)

    def forward(self, x):
        return x + self.place(self.spread(F.relu(self.gather(x))))


class Hourglass(nn.Module):
    """Four levels of pooling and upsampling with a residual block on every way (Newell et al., ECCV 2016)."""

    def __init__(self, channels, context, levels=4):
        super().__init__()
        self.beside, self.down, self.up = (Block(channels, channels) for _ in range(3))
        if levels > 1:
            self.below = Hourglass(channels, context, levels - 1)
        elif context:
            self.below = nn.Sequential(Block(channels, channels), Context(channels, context))
        else:
            self.below = Block(channels, channels)

    def forward(self, x):
        low = self.up(self.below(self.down(F.max_pool2d(x, 2))))
        return self.beside(x) + F.interpolate(low, scale_factor=2.0, mode="nearest")


class Vmn(nn.Module):
    """N×3×256×256, RGB, 0..255 (u8 or float) -> features N×64×64×64."""

    def __init__(self, description):
        super().__init__()
        layers, channels = [], 3
        for kind, *numbers in description.stem:
            if kind == "conv":
                kernel, stride, out = numbers
                layers.append(conv(channels, out, kernel, stride))
                channels = out
            elif kind == "block":
                layers.append(Block(channels, numbers[0]))
                channels = numbers[0]
            else:
                layers.append(nn.MaxPool2d(2))
        width = description.hourglass
        assert channels == width, "the stem ends at the hourglass's width"
        self.stem = nn.Sequential(*layers)
        self.hourglasses = nn.ModuleList(Hourglass(width, description.context) for _ in range(2))
        self.after = nn.ModuleList(nn.Sequential(Block(width, width), conv(width, width, 1)) for _ in range(2))
        self.merge = conv(width, width, 1, relu=False)
        self.features = nn.Conv2d(width, FEATURES, 1)

    def stages(self, image):
        """What the first hourglass leaves, N×width×64×64, and the features."""
        x = self.stem((image.float() - 127.5) / 64)
        first = self.after[0](self.hourglasses[0](x))
        second = self.after[1](self.hourglasses[1](x + self.merge(first)))
        return first, self.features(second)

    def forward(self, image):
        return self.stages(image)[1]


class VolumeHead(nn.Module):
    """Features -> logits N×r×r×r of the occupancy: one convolution from 64 slices to r, one 2D upsampling to r×r."""

    def __init__(self, resolution, channels=FEATURES):
        super().__init__()
        self.resolution = resolution
        self.slices = nn.Conv2d(channels, resolution, 1)

    def forward(self, features):
        x = self.slices(features)
        if self.resolution != FEATURES:
            x = F.interpolate(x, size=(self.resolution, self.resolution), mode="bilinear", align_corners=False)
        return x


def load_checkpoint(path):
    """What train.py wrote, or, of a folder, what export.py made of it: the averaged weights (fp16), no optimiser."""
    path = path.resolve()
    if not path.is_dir():
        return {"variant": SHIPPED[0]} | torch.load(path, weights_only=True, map_location="cpu")
    with safe_open(path / "norms.safetensors", "pt") as file:
        norms = {k: file.get_tensor(k) for k in file.keys()}
        samples = int(file.metadata()["samples"])
    weights = unfold(path, norms)
    return {"variant": path.name, "model": weights, "average": weights, "step": 10**6, "samples": samples}


def weights_in(path):
    """What a file of export.py holds, by name."""
    return {w.name.removesuffix("_fp16").removeprefix("head."): torch.from_numpy(onnx.numpy_helper.to_array(w).astype("f4"))
            for w in onnx.load(path).graph.initializer}


def unfold(folder, norms):
    """The weights of a variant (the folder's name) as the networks train them: export.py's ONNX files have the norms within
    the convolutions and the pose's scale within its last layer."""
    model = MMFace(DESCRIPTIONS[folder.name])
    known, state = model.state_dict().keys(), dict(model.named_buffers()) | norms
    for part, file in (("vmn", "vmn"), ("pmn", "pmn"), ("volume", "volume-64")):
        for stored, value in weights_in(folder / f"{file}.onnx").items():
            name = f"{part}.{stored}".replace(".pose.hidden.", ".pose.")
            if name == "pmn.pose.terms":  # weights and, last, bias, scaled; zero added
                last = f"pmn.pose.{len(model.pmn.pose) - 1}"
                value = value / model.pmn.pose_scale[:, None]
                state[f"{last}.weight"] = value[:, :-1]
                state[f"{last}.bias"] = value[:, -1] - model.pmn.pose_zero / model.pmn.pose_scale
            elif name == "pmn.volume.0.pairs":
                state["pmn.volume.0.weight"] = unpaired(value)
            elif name in known:  # all but the biases that folding made
                state[name] = value
    for path, layers in model.named_modules():
        for i, norm in enumerate(layers if isinstance(layers, Layers) else ()):
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                at = lambda field: state[f"{path}.{i}.{field}"]
                scale = at("weight") * (at("running_var") + norm.eps).rsqrt()
                weight = state[f"{path}.{i - 1}.weight"]
                state[f"{path}.{i - 1}.weight"] = weight / scale.view(-1, *[1] * (weight.ndim - 1))
    return state


def load_trained(path):
    """The networks of a checkpoint, or of a folder that ships, with the averaged weights."""
    checkpoint = load_checkpoint(path)
    model = MMFace(DESCRIPTIONS[checkpoint["variant"]]).eval()
    model.load_state_dict(checkpoint["average"])
    model.vmn.to(memory_format=torch.channels_last)
    return model


def load_heads(path):
    """The heads that volume_heads.py wrote, or, of a folder, those of 128 and 192 that export.py did, smallest first; none
    without a path."""
    if path is None:
        return []
    if path.is_dir():
        states = {r: weights_in(path / f"volume-{r}.onnx") for r in (128, 192)}
    else:
        states = torch.load(path, weights_only=True)
    heads = []
    for resolution, state in sorted(states.items()):
        heads.append(VolumeHead(resolution).eval())
        heads[-1].load_state_dict(state)
    return heads


def branch(into, hidden, out):
    layers = []
    for width in hidden:
        layers += [nn.Linear(into, width), nn.ReLU(inplace=True)]
        into = width
    return nn.Sequential(*layers, nn.Linear(into, out))


class FirstConv3d(nn.Conv3d):
    """4×4×4, stride 2, on few channels. In training it is computed as 2×2×2, stride 1, on blocks of 2×2×2
    voxels: the same sums, but oneDNN takes a third of the time for them on a CPU with AVX2."""

    def __init__(self, into, out):
        super().__init__(into, out, 4, 2, 1, bias=False)

    def _conv_forward(self, x, weight, bias):
        if not self.training:
            return super()._conv_forward(x, weight, bias)
        n, c, d, h, w = (s + 2 * (i > 1) for i, s in enumerate(x.shape))
        x = F.pad(x, (1,) * 6).view(n, c, d // 2, 2, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
        x = x.reshape(n, 8 * c, d // 2, h // 2, w // 2).contiguous(memory_format=torch.channels_last_3d)
        weight = weight.reshape(-1, c, 2, 2, 2, 2, 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(-1, 8 * c, 2, 2, 2)
        return F.conv3d(x, weight, bias)


def paired(weight):
    """Weights [out,1,4,4,4], stride 2, as [out,2,4,4,3], stride 2, 2, 1, where two neighbours of a row are two channels of
    one place: the same sums in half of the time (OpenVINO, bfloat16). The outer two of the six are nothing."""
    return F.pad(weight, (1, 1)).unflatten(-1, (3, 2)).squeeze(1).movedim(-1, 1).contiguous()


def unpaired(weight):
    """What `paired` was made from."""
    return weight.movedim(1, -1).flatten(-2)[..., 1:-1].unsqueeze(1).contiguous()


class Points(nn.Module):
    """Features -> where each of `count` points lies, [N,2·count] in −1…1 of the crop (x, y by turns): the mean of all
    places, weighed by the softmax of the point's own map (Sun et al., "Integral human pose regression", ECCV 2018); and how
    it looks there, [N,LOOKS·count]: the mean of a few more maps with the same weights."""

    def __init__(self, count, hidden, side=FEATURES // 2):
        super().__init__()
        self.count, self.cells = count, side * side
        self.maps = nn.Sequential(nn.Conv2d(FEATURES, hidden, 2, 2), nn.ReLU(inplace=True),
                                  nn.Conv2d(hidden, count, 1, bias=False))  # a softmax does not see one
        self.looks = nn.Conv2d(hidden, LOOKS, 1, bias=False)
        middle = (2 * torch.arange(side) + 1 - side) / side  # of each cell; exact in bfloat16
        down, across = torch.meshgrid(middle, middle, indexing="ij")
        self.register_buffer("places", torch.stack([across.flatten(), down.flatten()], 1))

    def forward(self, features):
        hidden = self.maps[:2](features)
        maps = self.maps[2](hidden).reshape(-1, self.count, self.cells)
        looks = self.looks(hidden).reshape(-1, LOOKS, self.cells)
        with torch.autocast(features.device.type, enabled=False):
            maps = torch.softmax(maps.float(), -1)
            # sums instead of a matrix product with two columns: that is a tenth of the PMN's time in OpenVINO's bfloat16
            places = (maps.unsqueeze(2) * self.places.T).sum(-1)
            return places.flatten(1), (maps @ looks.float().transpose(1, 2)).flatten(1)


class Pmn(nn.Module):
    """Features, read as a volume of one channel, -> pose [N,7], identity [N,K], expression [N,E], presence [N,1].

    pose = f (crop pixels per model unit), pitch, yaw, roll (degrees), tx, ty, tz (crop pixels).
    Last, what `Points` says, each point corrected by all others and the code: [N,136], or [N,0] without.
    """

    def __init__(self, description):
        super().__init__()
        layers, into = [], 1
        for i, out in enumerate(description.pmn):
            last = i == len(description.pmn) - 1
            convolution = FirstConv3d(into, out) if i == 0 else nn.Conv3d(into, out, 4, 2, 0 if last else 1, bias=False)
            layers += [convolution, nn.BatchNorm3d(out), nn.ReLU(inplace=True)]
            into = out
        self.volume = Layers(*layers)
        self.points = Points(description.points, description.sights) if description.points else None
        beside = (2 + LOOKS) * description.points
        into += beside
        self.together = branch(into, description.pose_hidden, 2 * description.points) if description.points else None
        self.identity = branch(into, description.identity_hidden, description.identity)
        self.expression = branch(into, description.expression_hidden, description.expression)
        self.pose = branch(into, description.pose_hidden, 7)
        self.presence = branch(into, description.presence_hidden, 1)
        self.bounded = description.bounded
        self.register_buffer("pose_scale", torch.tensor([0.2, 30, 30, 30, 64, 64, 64]))
        self.register_buffer("pose_zero", torch.tensor([math.log(F0), 0, 0, 0, 127.5, 127.5, -35.0]))
        for head in (self.identity, self.expression, self.pose, self.presence):
            nn.init.normal_(head[-1].weight, std=0.01)
            nn.init.zeros_(head[-1].bias)
            if self.points:  # so that they can be added to trained weights
                nn.init.zeros_(head[0].weight[:, -beside:])
        if self.points:
            nn.init.zeros_(self.together[-1].weight)
            nn.init.zeros_(self.together[-1].bias)
        if self.bounded:
            nn.init.constant_(self.expression[-1].bias, -2.5)

    def code(self, features):
        """What the heads read, and the points in it, not yet corrected."""
        code = self.volume(features.unsqueeze(1)).flatten(1)
        if not self.points:
            return code, code[:, :0]
        points, looks = self.points(features)
        return torch.cat([code, points, looks], 1), points

    def forward(self, features):
        return self.tell(*self.code(features))

    def tell(self, code, points):
        """What the heads make of `code`'s answer."""
        with torch.autocast(code.device.type, enabled=False):
            code = code.float()
            if self.points:
                points = points + self.together(code)
            pose = self.pose(code) * self.pose_scale + self.pose_zero
            pose = torch.cat([torch.exp(pose[:, :1]), pose[:, 1:]], 1)
            expression = self.expression(code)
            return (pose, self.identity(code), torch.sigmoid(expression) if self.bounded else expression, self.presence(code),
                    points)


class MMFace(nn.Module):
    """VMN, PMN and one volume head. Presence and volume come out as logits; the exported files add the sigmoid."""

    def __init__(self, description, resolution=64):
        super().__init__()
        self.vmn, self.pmn, self.volume = Vmn(description), Pmn(description), VolumeHead(resolution)

    def forward(self, image):
        features = self.vmn(image)
        return features, *self.pmn(features)
