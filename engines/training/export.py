"""Writes vmn.onnx, pmn.onnx, volume-64.onnx and further heads, reference.safetensors and manifest.toml from a checkpoint.

Batch normalisation is folded into the convolutions, weights are stored as fp16 and cast to f32 in the graph, and the
crop goes in as bytes. Without --checkpoint the networks are untrained: the shapes are final, the numbers mean nothing.

    python export.py --checkpoint runs/long/last.pt --heads runs/long/heads.pt --astronaut astronaut.png
    python export.py --variant mmface-nano --checkpoint runs/nano/last.pt --heads runs/nano/heads.pt --astronaut astronaut.png
    python export.py --variant mmface-paper --face-model basel.safetensors --engines paper --astronaut astronaut.png
"""

import argparse
import copy
import datetime
import hashlib
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

import morphable
from networks import DESCRIPTIONS, FEATURES, POINTS_WEIGHT, SHIPPED, MMFace, VolumeHead, load_checkpoint, load_heads, paired

OPSET = 17
SMALL = 2000  # numbers: smaller weights stay f32
ASTRONAUT_BOX = (178, 85, 93, 95)  # pixels x, y, w, h: the landmark box in scikit-image's portrait, 512×512


class ExportedPose(nn.Module):
    """The pose branch with its last layer, scale and zero as one product and sum.

    Runtimes that compute matrix products in bfloat16 also round what they fuse behind them, and a shift of 140 pixels
    rounded to bfloat16 is half a pixel off; behind the product here everything stays f32. The constant term rides in
    the sum, because OpenVINO 2026.4 fuses an addition behind ReduceSum wrongly.
    """

    def __init__(self, pmn):
        super().__init__()
        *self.hidden, last = pmn.pose
        self.hidden = nn.Sequential(*self.hidden)
        scale = pmn.pose_scale[:, None]
        self.terms = nn.Parameter(torch.cat([last.weight * scale, last.bias[:, None] * scale + pmn.pose_zero[:, None]], 1))

    def forward(self, code):
        pose = (F.pad(self.hidden(code), (0, 1), value=1.0).unsqueeze(1) * self.terms).sum(-1)
        return torch.cat([torch.exp(pose[:, :1]), pose[:, 1:]], 1)


class ExportedFirst(nn.Module):
    """The PMN's first convolution, reading pairs of voxels (see `paired`). Not in mmface-paper, whose file is read layer by
    layer against the paper's table."""

    def __init__(self, convolution):
        super().__init__()
        self.pairs, self.bias = nn.Parameter(paired(convolution.weight)), convolution.bias

    def forward(self, features):
        pairs = features.reshape(-1, FEATURES, FEATURES, FEATURES // 2, 2).permute(0, 4, 1, 2, 3)
        return F.conv3d(pairs, self.pairs, self.bias, (2, 2, 1), 1)


class ExportedPmn(nn.Module):
    def __init__(self, pmn, pairs):
        super().__init__()
        if pairs:
            pmn.volume[0] = ExportedFirst(pmn.volume[0])
        self.code, self.volume, self.points = pmn.code, pmn.volume, pmn.points
        self.identity, self.expression, self.presence = pmn.identity, pmn.expression, pmn.presence
        self.together = pmn.together
        self.pose, self.bounded = ExportedPose(pmn), pmn.bounded

    def forward(self, features):
        code, points = self.code(features)
        expression = self.expression(code)
        told = (self.pose(code), self.identity(code), torch.sigmoid(expression) if self.bounded else expression,
                torch.sigmoid(self.presence(code)))
        return (*told, (points + self.together(code)).reshape(-1, self.points.count, 2)) if self.points else told


class ExportedVolume(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, features):
        return torch.sigmoid(self.head(features))


def fold(module):
    """Folds each batch normalisation into the convolution before it, in every Sequential."""
    for child in module.modules():
        if isinstance(child, nn.Sequential):
            for i in range(len(child) - 1):
                if isinstance(child[i + 1], (nn.BatchNorm2d, nn.BatchNorm3d)):
                    child[i] = fuse_conv_bn_eval(child[i], child[i + 1])
                    child[i + 1] = nn.Identity()
    return module


def halve_weights(path):
    """Stores the larger f32 initialisers as fp16 with a Cast to f32 behind each; the arithmetic stays f32."""
    model = onnx.load(path)
    graph, casts = model.graph, []
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT and np.prod(weight.dims) > SMALL:
            half = numpy_helper.to_array(weight).astype(np.float16)
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(half, name + "_fp16"))
            casts.append(helper.make_node("Cast", [name + "_fp16"], [name], to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def round_to_half(module):
    """Makes PyTorch compute with the weights that the file holds."""
    with torch.no_grad():
        for p in module.parameters():
            if p.numel() > SMALL:
                p.copy_(p.half().float())
    return module


def write_onnx(module, example, path, inputs, outputs):
    torch.onnx.export(module, example, path, input_names=inputs, output_names=outputs, opset_version=OPSET,
                      dynamic_axes={n: {0: "N"} for n in inputs + outputs}, dynamo=False)
    halve_weights(path)


def reference_images(astronaut):
    """u8 [2,3,256,256], RGB: a public-domain portrait in our crop, and a synthetic picture."""
    picture = cv2.cvtColor(cv2.imread(str(astronaut)), cv2.COLOR_BGR2RGB)
    x, y, w, h = ASTRONAUT_BOX
    side = morphable.CROP_SCALE * max(w, h)
    centre = np.array([x + w / 2, y + h / 2 - morphable.CROP_RAISE * max(w, h)])
    step = side / morphable.CROP
    to_picture = np.array([[step, 0, centre[0] - 127.5 * step], [0, step, centre[1] - 127.5 * step]])
    crop = cv2.warpAffine(picture, to_picture, (256, 256), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    across, down = np.meshgrid(np.arange(256), np.arange(256))
    noise = np.random.default_rng(0).integers(0, 32, (256, 256, 3))
    synthetic = np.stack([across, down, (across + down) // 2], -1) * 7 // 8 + noise
    return torch.from_numpy(np.stack([crop, synthetic.clip(0, 255).astype(np.uint8)])).permute(0, 3, 1, 2).contiguous()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def toml_table(values):
    """A flat dict as an inline TOML table."""
    return "{ " + ", ".join(f"{json.dumps(k) if not k.replace('_', '').isalnum() else k} = {json.dumps(v)}"
                            for k, v in values.items()) + " }"


def entries(manifest):
    """The text of a manifest as {name of a table: its lines}; "" has what stands before the first."""
    return {re.match(r"\[?([^\]\n]*)", part)[1] if part.startswith("[") else "": part.strip("\n")
            for part in re.split(r"\n(?=\[)", manifest)}


def of_variant(table, variant):
    return table == f"variants.{variant}" or table.startswith(f"variants.{variant}.")


def others(engines, variant):
    """The entries of the other variants that ship, before this one and behind it."""
    path = engines / "manifest.toml"
    there = entries(path.read_text()) if path.exists() else {}
    place = SHIPPED.index(variant) if variant in SHIPPED else 0
    return [[text for name in some for table, text in there.items() if of_variant(table, name)]
            for some in (SHIPPED[:place], SHIPPED[place + 1:])]


def write_manifest(engines, variant, description, networks, training, measured):
    """networks: name -> (inputs, outputs), each a list of (name, type, shape). measured: what evaluate.py wrote. What the
    manifest says of other variants stays."""
    before, behind = others(engines, variant)
    lines = ["schema = 1", "", "[face_model]", 'file = "face-model.safetensors"',
             f'sha256 = "{sha256(engines / "face-model.safetensors")}"',
             f"identity = {description.identity}", f"expressions = {description.expression}", "",
             *(line for text in before for line in (text, "")),
             f"[variants.{variant}]", f"trained = {json.dumps(training is not None)}" + ("" if training else "  # weights: none")]
    if training:
        lines.append(f"training = {toml_table(training)}")
    lines += [f"crop = {{ size = {morphable.CROP}, scale = {morphable.CROP_SCALE}, raise = {morphable.CROP_RAISE} }}",
              f"presence_threshold = {measured.get('presence_threshold', 0.5)}"]
    if description.points:
        lines.append(f"points_weight = {POINTS_WEIGHT}")
    for name, sides in networks.items():
        file = f"{variant}/{name}.onnx"
        lines += ["", f"[variants.{variant}.networks.{name}]", f'file = "{file}"', f'sha256 = "{sha256(engines / file)}"']
        for side, tensors in zip(("inputs", "outputs"), sides):
            rows = ", ".join(toml_table({"name": n, "type": t, "shape": s}) for n, t, s in tensors)
            lines.append(f"{side} = [{rows}]")
    if training and variant in measured["error"]:
        lines += ["", f"[variants.{variant}.error]  # see {variant}/MODEL_CARD.md"]
        lines += [f"{k} = {v}" for k, v in measured["error"][variant].items()]
    lines += [line for text in behind for line in ("", text)]
    for detector, fit in measured["detectors"].items():
        lines += ["", f"[detectors.{detector}]", f"centre = {fit['centre']}", f"scale = {fit['scale']}"]
    (engines / "manifest.toml").write_text("\n".join(lines) + "\n")


def offer(engines, variant, precision, agrees):
    """Enters the networks of a precision into the manifest, if they agree with f32; entries of an earlier run go."""
    path, names = engines / "manifest.toml", ("vmn", "pmn")
    mine = {f"variants.{variant}.networks.{network}-{precision}": f"{variant}/{network}-{precision}.onnx" for network in names}
    tables = {table: text for table, text in entries(path.read_text()).items() if table not in mine}
    last = [table for table in tables if of_variant(table, variant)][-1]
    for table, file in mine.items() if agrees else ():
        tables[last] += f'\n\n[{table}]\nfile = "{file}"\nsha256 = "{sha256(engines / file)}"'
    path.write_text("\n\n".join(tables.values()) + "\n")


def main():
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="what train.py wrote; its averaged weights are exported")
    parser.add_argument("--heads", type=Path, help="further volume heads, from volume_heads.py")
    parser.add_argument("--astronaut", type=Path, required=True, help="astronaut.png of scikit-image's data folder")
    parser.add_argument("--measured", type=Path, default=here / "measured.json", help="numbers for the manifest")
    parser.add_argument("--engines", type=Path, default=here / "..", help="where everything goes")
    parser.add_argument("--variant", choices=DESCRIPTIONS, default=SHIPPED[0])
    parser.add_argument("--face-model", type=Path, help="a file with the variant's modes (see basel.py), copied to --engines")
    options = parser.parse_args()

    variant, description = options.variant, DESCRIPTIONS[options.variant]
    if variant not in SHIPPED and options.engines.resolve() == (here / "..").resolve():
        parser.error(f"{variant} does not ship: name another folder with --engines")
    options.engines.mkdir(parents=True, exist_ok=True)
    if options.face_model:
        shutil.copyfile(options.face_model, options.engines / "face-model.safetensors")
    with safe_open(options.engines / "face-model.safetensors", "pt") as file:
        modes = [file.get_slice(kind).get_shape()[0] for kind in ("identity", "expression")]
    if modes != [description.identity, description.expression]:
        parser.error(f"the face model has {modes} identity and expression modes, {variant} wants "
                     f"{[description.identity, description.expression]}: name another with --face-model (see basel.py)")
    torch.manual_seed(0)
    model, training = MMFace(description).eval(), None
    folder = options.engines / variant
    folder.mkdir(exist_ok=True)
    if options.checkpoint:
        saved = load_checkpoint(options.checkpoint)
        if saved["variant"] != variant:
            parser.error(f"{options.checkpoint} holds weights of {saved['variant']}: name it with --variant")
        model.load_state_dict(saved["average"])
        training = {"samples": saved["samples"], "pictures": saved["pictures"],
                    "date": datetime.date.today().isoformat(), "note": saved["note"]}
        # With these, `networks.load_checkpoint` makes of the files below what training goes on from.
        norms = [n + "." for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        save_file({k: v.contiguous() for k, v in saved["average"].items() if k.startswith(tuple(norms))},
                  folder / "norms.safetensors", {"samples": str(saved["samples"])})
    model = fold(copy.deepcopy(model))
    exported = (model.vmn, ExportedPmn(model.pmn, pairs=variant in SHIPPED), ExportedVolume(model.volume))
    vmn, pmn, volume = (round_to_half(m).eval() for m in exported)
    heads = {64: volume} | {h.resolution: round_to_half(ExportedVolume(h)).eval() for h in load_heads(options.heads)}
    if variant not in SHIPPED:  # the paper's other resolutions; no checkpoint holds weights for them
        heads |= {r: round_to_half(ExportedVolume(VolumeHead(r))).eval() for r in (128, 192)}

    images = reference_images(options.astronaut)
    with torch.no_grad():
        features = vmn(images)
        told = dict(zip(["pose", "identity", "expression", "presence", "points"], pmn(features)))
        occupancy = volume(features)
    write_onnx(vmn, (images,), folder / "vmn.onnx", ["image"], ["features"])
    write_onnx(pmn, (features,), folder / "pmn.onnx", ["features"], list(told))
    for r, head in heads.items():
        write_onnx(head, (features,), folder / f"volume-{r}.onnx", ["features"], ["volume"])
    reference = {"image": images, **told, "volume_mean": occupancy.mean((2, 3))}
    save_file({k: v.contiguous() for k, v in reference.items()}, folder / "reference.safetensors")

    feature_map = ["features", "f32", ["N", FEATURES, 64, 64]]
    write_manifest(options.engines, variant, description, {
        "vmn": ([["image", "u8", ["N", 3, 256, 256]]], [feature_map]),
        "pmn": ([feature_map], [[name, "f32", ["N", *value.shape[1:]]] for name, value in told.items()]),
        **{f"volume-{r}": ([feature_map], [["volume", "f32", ["N", r, r, r]]]) for r in heads},
    }, training, json.loads(options.measured.read_text()))
    for file in sorted(folder.iterdir()):
        print(f"{file.name}: {file.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
