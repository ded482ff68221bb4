"""Writes vmn-f16.onnx and pmn-f16.onnx beside the f32 files and enters them in the manifest, if they agree with f32.

TensorRT computes in what the file says, so f16 is a file of its own. Convolutions and matrix products become f16 (Turing
chips know no others in f32); what scales the outputs behind them stays f32, because a shift of 140 crop pixels in f16 is a
tenth of a pixel off. The files are compared on real faces. Few CPUs compute in f16, so a third file rounds to f16 behind every layer and adds up in f32, as
tensor cores do.

    python half.py --pictures ../../vendor/media --detector ../../vendor/models/centerface.onnx
"""

import argparse
import sys
import tomllib
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from export import offer

# How far f16 may be from f32 on any crop: crop pixels, degrees, and so on. A pixel of the crop is .4 % of the face.
TOLERANCE = {"scale, %": 0.5, "rotation, degrees": 0.5, "shift, crop pixels": 0.4,
             "identity, standard deviations": 0.1, "expression": 0.03, "presence": 0.03, "points, half crops": 0.003}


# What is computed in f16; anything else ends it.
HALVED = {"Conv", "Gemm", "Relu", "Add", "Sub", "Div", "MaxPool", "Resize", "Flatten", "Unsqueeze",
          "DepthToSpace", "Reshape", "Transpose", "Softmax", "MatMul", "Concat"}


def halve(model):
    """Makes everything f16 from the bytes or features that go in to the last product. Returns the names of what is f16
    now."""
    graph = model.graph
    initializers = {i.name: i for i in graph.initializer}
    constants = {n.output[0]: n for n in graph.node if n.op_type == "Constant"}
    stored = {n.output[0]: n for n in graph.node if n.op_type == "Cast" and n.input[0] in initializers}
    half = {i.name for i in graph.input if i.type.tensor_type.elem_type == TensorProto.FLOAT}
    bytes_in = {i.name for i in graph.input if i.type.tensor_type.elem_type == TensorProto.UINT8}
    nodes, same, raised = [], {}, set()  # same: what was cast to f32 and no longer is; raised: what now is
    for node in graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = same.get(name, name)
        halved = any(name in half for name in node.input)
        exact = [n for n in node.input if n and not any(n in known for known in (half, initializers, constants, stored))]
        if node.op_type == "Cast" and node.input[0] in bytes_in:
            node.attribute[0].i = TensorProto.FLOAT16
            half.update(node.output)
        elif node.op_type == "Cast" and halved:
            same[node.output[0]] = node.input[0]
            continue
        elif halved and exact and node.op_type == "Concat":  # the points beside the code
            for k, name in enumerate(node.input):
                if name in exact:
                    node.input[k] = name + "/f16"
                    nodes.append(helper.make_node("Cast", [name], [name + "/f16"], to=TensorProto.FLOAT16))
            half.update(node.output)
        elif halved and not exact and node.op_type in HALVED:
            for k, name in enumerate(node.input):
                if name in stored:  # the weight without its cast
                    node.input[k] = stored[name].input[0]
                elif name in initializers and initializers[name].data_type == TensorProto.FLOAT:
                    array = numpy_helper.to_array(initializers[name]).astype(np.float16)
                    initializers[name].CopyFrom(numpy_helper.from_array(array, name))
                elif name in constants and node.op_type in ("Sub", "Div", "Add"):
                    value = constants[name].attribute[0].t
                    value.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(value).astype(np.float16), value.name))
            half.update(node.output)
        elif halved:
            for k, name in enumerate(node.input):
                if name in half:
                    node.input[k] = name + "/f32"
                    if name not in raised:
                        raised.add(name)
                        nodes.append(helper.make_node("Cast", [name], [name + "/f32"], to=TensorProto.FLOAT))
        nodes.append(node)
    for value in [*graph.input, *graph.output]:
        if value.name == "features":  # the only thing between the two networks
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for output in [o.name for o in graph.output if o.name in half and o.name != "features"]:
        for node in nodes:
            if output in node.output:
                node.output[0] = output + "/f16"
        nodes.append(helper.make_node("Cast", [output + "/f16"], [output], to=TensorProto.FLOAT))
    used = {name for node in nodes for name in node.input}
    nodes = [n for n in nodes if n.op_type != "Cast" or n.output[0] in used or any(o.name == n.output[0] for o in graph.output)]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return half


def rounded(model, half):
    """The f32 model with every tensor in `half` rounded to f16."""
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for k, name in enumerate(node.output):
            if name in half:
                node.output[k] = name + "/exact"
                nodes.append(helper.make_node("Cast", [name + "/exact"], [name + "/f16"], to=TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [name + "/f16"], [name], to=TensorProto.FLOAT))
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    return model


def faces(centerface, picture):
    """x, y, w, h of what CenterFace is sure of, at most eight."""
    height, width = (n // 32 * 32 for n in picture.shape[:2])
    blob = cv2.dnn.blobFromImage(picture[:height, :width], size=(width, height), swapRB=True)
    centerface.setInput(blob)
    heat, size, offset, _ = centerface.forward(["537", "538", "539", "540"])
    heat = heat[0, 0]
    peaks = np.argwhere((heat > 0.5) & (heat == cv2.dilate(heat, np.ones((5, 5)))))
    for y, x in sorted(peaks, key=lambda p: -heat[tuple(p)])[:8]:
        h, w = np.exp(size[0, :, y, x]) * 4
        dy, dx = offset[0, :, y, x]
        yield (x + dx + 0.5) * 4 - w / 2, (y + dy + 0.5) * 4 - h / 2, w, h


def crops(pictures, detector, rule):
    """u8 [N,3,256,256] of the faces in the pictures of a folder, each upright and turned."""
    found = []
    for path in sorted(p for p in pictures.iterdir() if p.suffix in (".jpg", ".png")):
        picture = cv2.imread(str(path))
        scale = min(1.0, 1280 / max(picture.shape))
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        # One a picture: a network is not used again for another size.
        for x, y, w, h in faces(cv2.dnn.readNetFromONNX(str(detector)), picture):
            side = rule["scale"] * max(w, h)
            centre = np.array([x + w / 2, y + h / 2]) + np.array(rule["centre"]) * max(w, h)
            for turn in (0, 12, -25):
                to_picture = cv2.getRotationMatrix2D((127.5, 127.5), turn, side / 256)
                to_picture[:, 2] += centre - 127.5
                crop = cv2.warpAffine(picture, to_picture, (256, 256), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
                found.append(crop[:, :, ::-1].transpose(2, 0, 1))
    return np.ascontiguousarray(found)


def run(models, images):
    """The PMN's outputs for every crop: pose, identity, expression, presence, points."""
    sessions = [onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
                for model in models]
    rows = []
    for image in images:
        features = sessions[0].run(None, {"image": image[None]})[0]
        rows.append(sessions[1].run(["pose", "identity", "expression", "presence", "points"], {"features": features}))
    return [np.concatenate(column) for column in zip(*rows)]


def differences(f32, f16):
    """The worst over all crops, in the units of TOLERANCE."""
    (pose, *rest), (pose16, *rest16) = f32, f16
    turn = np.abs((pose[:, 1:4] - pose16[:, 1:4] + 180) % 360 - 180)
    worst = [np.abs(pose16[:, 0] / pose[:, 0] - 1) * 100, turn, np.abs(pose[:, 4:6] - pose16[:, 4:6]),
             *(np.abs(a - b) for a, b in zip(rest, rest16))]
    return dict(zip(TOLERANCE, (float(w.max()) for w in worst)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, required=True, help="folder with pictures of faces")
    parser.add_argument("--detector", type=Path, required=True, help="centerface.onnx")
    parser.add_argument("--variant", default="mmface-lite")
    parser.add_argument("--engines", type=Path, default=Path(__file__).parent / "..")
    options = parser.parse_args()

    folder = options.engines / options.variant
    manifest = tomllib.loads((options.engines / "manifest.toml").read_text())
    exact, approximate = [], []
    for network in ("vmn", "pmn"):
        exact.append(onnx.load(folder / f"{network}.onnx"))
        model = onnx.load(folder / f"{network}.onnx")
        half = halve(model)
        onnx.save(model, folder / f"{network}-f16.onnx")
        approximate.append(rounded(onnx.load(folder / f"{network}.onnx"), half))
    images = crops(options.pictures, options.detector, manifest["detectors"]["centerface"])
    worst = differences(run(exact, images), run(approximate, images))
    print(f"{len(images)} crops; worst difference (allowed)")
    for what, allowed in TOLERANCE.items():
        print(f"  {what:32} {worst[what]:.4f} ({allowed})")
    agrees = all(worst[what] <= allowed for what, allowed in TOLERANCE.items())
    offer(options.engines, options.variant, "f16", agrees)
    if not agrees:
        sys.exit("f16 does not agree with f32: it is not offered")


if __name__ == "__main__":
    main()
