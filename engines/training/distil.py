"""What a network that ships teaches a smaller one about the same crops: its outputs, its features, its volume."""

from pathlib import Path

import numpy as np
import openvino
import torch
from torch import nn
from torch.nn import functional as F

import losses
import morphable
from networks import FEATURES, VolumeHead, fast, weights_in

ALIKE = 20.0  # weight of the features' mean squared difference, in variances of the teacher's


class Teacher:
    """The networks of a folder that ships, in OpenVINO, int8 and bf16 where the CPU has them: a fraction of the time that
    PyTorch takes for them. Answers as MMFace does, for batches of one size."""

    def __init__(self, folder, batch, threads=1):
        core, folder = openvino.Core(), Path(folder)
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        quantised = "-int8" if (folder / "vmn-int8.onnx").exists() else ""
        self.vmn, self.pmn = (self.compiled(core, folder / f"{name}{quantised}.onnx", batch, settings) for name in ("vmn", "pmn"))
        self.volume = VolumeHead(FEATURES).eval().requires_grad_(False)
        self.volume.load_state_dict(weights_in(folder / "volume-64.onnx"))

    @staticmethod
    def compiled(core, path, batch, settings):
        model = core.read_model(path)
        model.reshape([batch, *(d.get_length() for d in [*model.input(0).partial_shape][1:])])
        return core.compile_model(model, "CPU", settings).create_infer_request()

    def __call__(self, image):
        """u8 [N,3,256,256] -> features, pose, identity, expression, presence (logits), points [N,136]."""
        self.vmn.infer({0: np.ascontiguousarray(image.numpy())})
        self.pmn.set_input_tensor(self.vmn.get_output_tensor())
        self.pmn.infer()
        told = {t.any_name: torch.from_numpy(self.pmn.get_tensor(t).data.copy()) for t in self.pmn.model_outputs}
        features = torch.from_numpy(self.vmn.get_output_tensor().data)  # until the next crops
        return (features, told["pose"], told["identity"], told["expression"], torch.logit(told["presence"], 1e-4),
                told["points"].flatten(1))


class Alike(nn.Module):
    """How far a linear map of the features is from the teacher's features, in their variance."""

    def __init__(self):
        super().__init__()
        self.map = nn.Conv2d(FEATURES, FEATURES, 1)
        nn.init.dirac_(self.map.weight)  # features that began as the teacher's need none
        nn.init.zeros_(self.map.bias)

    def forward(self, features, theirs):
        with fast(features.device.type):
            apart = self.map(features) - theirs
        return ALIKE * apart.float().square().mean() / theirs.float().var()


def taught(targets, alike, outputs, theirs, features, volume, head, row, affine, presence):
    """Losses against what a teacher says of the same crops, weighed as those against the labels are. `outputs` and `theirs`:
    pose, identity, expression, presence, points; `features`: mine and the teacher's, `volume`: my logits, `head`: its own.
    Features and volume are compared at a quarter of the places, drawn anew each time: they are smooth."""
    across, down = torch.randint(2, (2,)).tolist()
    quarter = (..., slice(down, None, 2), slice(across, None, 2))
    mine, its = (maps[quarter] for maps in features)
    with torch.no_grad(), fast(its.device.type):
        solid = torch.sigmoid(head(its)).float()
    real = torch.nonzero(presence > 0.5)[:, 0]
    label = losses.to_crop(F.pad(targets.points[row[real]], (0, 1)), affine[real])[..., :2]
    percent = (100 / (label.amax(1) - label.amin(1)).prod(1).sqrt())[:, None]
    placed = lambda o: morphable.project(targets.some_vertices(torch.cat([o[1], o[2]], 1)), o[0])
    turned = lambda o: morphable.rotation(o[0][:, 1:4])
    here = F.binary_cross_entropy_with_logits(outputs[3].float(), torch.sigmoid(theirs[3].float()))
    ours, theirs = ([x.float()[real] for x in o] for o in (outputs, theirs))
    off = (placed(ours) - placed(theirs)) * percent[..., None]
    deep = off[..., 2] - off[..., 2].mean(1, keepdim=True)
    apart = (turned(ours) - turned(theirs)).square().sum((1, 2))
    return {
        "taught presence": losses.PRESENCE / 2 * here,
        "taught vertices": 4 * losses.VERTICES * (off[..., :2].abs().sum(-1) + deep.abs()).mean(),
        "taught rotation": losses.ROTATION * (apart + 1e-6).sqrt().mean(),
        "taught identity": losses.IDENTITY * (ours[1] - theirs[1]).square().mean(),
        "taught expression": losses.EXPRESSION * ((ours[2] - theirs[2]).square() * targets.expression_weight).mean(),
        "taught points": losses.POINTS * ((losses.seen(ours[4]) - losses.seen(theirs[4])).norm(dim=-1) * percent).mean(),
        "taught volume": losses.VOLUME / 2 * F.binary_cross_entropy_with_logits(volume[quarter].float(), solid),
        "taught features": alike(mine, its),
    }
