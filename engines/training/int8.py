"""Writes vmn-int8.onnx and pmn-int8.onnx beside the f32 files and enters them in the manifest, if they are as accurate.

NNCF quantises the convolutions after training (https://github.com/openvinotoolkit/nncf); its ranges come from crops of
hand-labelled training pictures. What stays in floating point, which OpenVINO computes in bf16 where the CPU has it:

- the PMN's first convolution: the features are mostly within ±6 and reach ±20, so that 8 bits of them cost landmarks;
- everything that is no convolution: in 8 bits the pose branch misses the scale by a third.

CPUs without VNNI add products of 8 bits up in 16, which can overflow; so weights take 7 bits (`OverflowFix.ENABLE`).
The files hold OpenVINO's FakeQuantize, so that no other program reads them. The accuracy is measured on hand-labelled validation pictures, in OpenVINO on this CPU.

    python int8.py --faces ../../../shared/faces --variant mmface-lite
"""

import argparse
import json
import math
import sys
from pathlib import Path

import nncf
import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper

from check_export import compiled
from data import cv2, crop_affine, warp
from export import halve_weights, offer
from fit import split_of

CALIBRATION = 300  # crops
ALLOWED = 1.0  # %: how much larger the landmark errors may be than in f32
FLOATING = {"vmn": {}, "pmn": {"types": ["MatMul", "Gemm", "Mul", "Add", "ReduceSum", "Softmax", "Exp", "Pad", "Concat"],
                               "names": ["/volume/volume.0/Conv"]}}


def labelled(faces, split):
    """(path, points [68,2]) of the hand-labelled pictures of a split."""
    for line in (faces / "pictures.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row.get("points68") and split_of(row) == split:
            yield faces / row["file"], np.array(row["points68"], float)


def cut(pictures, random=None):
    """Crops u8 [n,3,256,256], RGB, and the points in them [n,68,2]; with `random` as a detector's box would be."""
    crops, labels = [], []
    for path, points in pictures:
        along = points[42:48].mean(0) - points[36:42].mean(0)  # from eye to eye
        leaning = math.degrees(math.atan2(along[1], along[0]))
        jitter = (random.normal(0, 8), np.exp(random.normal(0, 0.1)), random.normal(0, 0.07, 2)) if random else (0, 1, (0, 0))
        affine = crop_affine(points, leaning + jitter[0], *jitter[1:])
        crops.append(warp(cv2.imread(str(path))[..., ::-1], affine).transpose(2, 0, 1))
        labels.append(points @ affine[:, :2].T + affine[:, 2])
    return np.ascontiguousarray(crops), np.stack(labels)


def in_f32(path):
    """The network with its weights as f32, not as f16 with a cast behind it, which NNCF does not take for weights."""
    model = onnx.load(path)
    graph = model.graph
    stored = {i.name: i for i in graph.initializer if i.data_type == TensorProto.FLOAT16}
    casts = [n for n in graph.node if n.op_type == "Cast" and n.input[0] in stored]
    for cast in casts:
        weight = stored[cast.input[0]]
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), cast.output[0]))
        graph.node.remove(cast)
    return model


def simplify(model):
    """The same network in a third of OpenVINO's operations, so that the program starts sooner: FakeQuantize, which is
    OpenVINO's own, instead of QuantizeLinear and DequantizeLinear; biases added, because a bias of a convolution becomes
    nine operations that look up shapes; no zero points that are zero."""
    graph, nodes = model.graph, []
    constants = {i.name: i for i in graph.initializer}
    made = {n.output[0]: n for n in graph.node}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in made:  # of activations
            quantize = made[node.input[0]]
            scale, zero = (numpy_helper.to_array(constants[name]) for name in quantize.input[1:])
            ends = [quantize.input[0] + end for end in ("/low", "/high")]
            if ends[0] not in constants:
                kind = np.iinfo(zero.dtype)
                for name, value in zip(ends, (kind.min, kind.max)):
                    constants[name] = numpy_helper.from_array(np.float32((value - int(zero)) * scale), name)
            node = helper.make_node("FakeQuantize", [quantize.input[0], *ends, *ends], node.output,
                                    domain="org.openvinotoolkit", levels=256)
        elif node.op_type == "DequantizeLinear" and not numpy_helper.to_array(constants[node.input[2]]).any():
            del node.input[2]
        elif node.op_type == "Conv" and len(node.input) == 3:
            bias = numpy_helper.to_array(constants[node.input[2]])
            kernel = next(a.ints for a in node.attribute if a.name == "kernel_shape")
            shaped = numpy_helper.from_array(bias.reshape(1, -1, *[1] * len(kernel)), node.input[2] + "/shaped")
            constants[shaped.name] = shaped
            nodes.append(node)
            node = helper.make_node("Add", [node.output[0] + "/product", shaped.name], [node.output[0]])
            nodes[-1].output[0] += "/product"
            del nodes[-1].input[2]
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    nodes = [n for n in nodes if n.op_type != "QuantizeLinear" or n.output[0] in used]
    used = {name for node in nodes for name in node.input}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(c for name, c in constants.items() if name in used)
    model.opset_import.append(helper.make_opsetid("org.openvinotoolkit", 1))
    return model


def quantise(folder, network, inputs):
    """inputs: what goes into the network, one array a crop. Writes the int8 file."""
    model = in_f32(folder / f"{network}.onnx")
    name = model.graph.input[0].name
    scope = nncf.IgnoredScope(**FLOATING[network], validate=False) if FLOATING[network] else None
    quantised = nncf.quantize(model, nncf.Dataset([{name: x[None]} for x in inputs]), subset_size=len(inputs),
                              ignored_scope=scope, advanced_parameters=nncf.AdvancedQuantizationParameters(
                                  overflow_fix=nncf.OverflowFix.ENABLE))
    path = folder / f"{network}-int8.onnx"
    onnx.save(simplify(quantised), path)
    halve_weights(path)


def run(core, folder, suffix, crops, precision="f32"):
    """Features [n,64,64,64] and the outputs of the PMN, a dict of arrays, for crops."""
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    vmn, pmn = (compiled(core, folder / f"{n}{suffix}.onnx", precision, settings) for n in ("vmn", "pmn"))
    features, rows = [], []
    for crop in crops:
        vmn.infer({0: crop[None]})
        pmn.set_input_tensor(vmn.get_output_tensor())
        pmn.infer()
        features.append(vmn.get_output_tensor().data[0].copy() if precision == "f32" else None)
        rows.append({t.any_name: pmn.get_tensor(t).data.copy() for t in pmn.model_outputs})
    return features, {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def errors(told, labels):
    """Landmark errors of the points, inner and all, in % of the root of the label box's area."""
    apart = np.linalg.norm((told["points"] + 1) * 127.5 - labels, axis=-1)
    size = np.sqrt((labels.max(1) - labels.min(1)).prod(1))
    percent = 100 * apart / size[:, None]
    return percent[:, 17:].mean(), percent.mean()


def beside(told, exact):
    """Mean differences from f32, in words."""
    turn = np.abs((told["pose"][:, 1:4] - exact["pose"][:, 1:4] + 180) % 360 - 180)
    shift = np.abs(told["pose"][:, 4:6] - exact["pose"][:, 4:6])
    rest = ", ".join(f"{name} {np.abs(told[name] - exact[name]).mean():.4f}" for name in ("expression", "identity", "presence"))
    return f"angles {turn.mean():.3f}°, shift {shift.mean():.2f} crop pixels, {rest}"


def main():
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, default=here / "../../../shared/faces")
    parser.add_argument("--variant", default="mmface-lite")
    parser.add_argument("--engines", type=Path, default=here / "..")
    options = parser.parse_args()

    core, folder = openvino.Core(), (options.engines / options.variant).resolve()
    random, training = np.random.default_rng(0), list(labelled(options.faces, "train"))
    crops, _ = cut([training[i] for i in random.permutation(len(training))[:CALIBRATION]], random)
    features, _ = run(core, folder, "", crops)
    quantise(folder, "vmn", crops)
    quantise(folder, "pmn", features)

    crops, labels = cut(labelled(options.faces, "validation"))
    exact = run(core, folder, "", crops)[1]
    told = run(core, folder, "-int8", crops)[1]
    print(f"{len(crops)} validation pictures; landmark errors, inner and all, in %")
    print("  f32: {:.3f} {:.3f}".format(*errors(exact, labels)))
    print("  int8: {:.3f} {:.3f}; mean differences: {}".format(*errors(told, labels), beside(told, exact)))
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        mixed = run(core, folder, "-int8", crops, "bf16")[1]
        print("  int8, the rest in bf16: {:.3f} {:.3f}; {}".format(*errors(mixed, labels), beside(mixed, exact)))

    accurate = all(a <= b * (1 + ALLOWED / 100) for a, b in zip(errors(told, labels), errors(exact, labels)))
    offer(options.engines, options.variant, "int8", accurate)
    if not accurate:
        sys.exit(f"int8 is more than {ALLOWED} % less accurate than f32: it is not offered")


if __name__ == "__main__":
    main()
