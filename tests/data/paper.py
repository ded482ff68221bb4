"""Writes the paper-size networks without their 500 MB of weights: each large one is made in the graph, by
ConstantOfShape. TensorRT's reader and builder meet the real architecture and sizes.

    python tests/data/paper.py      (with the Python of engines/training)
"""

import copy
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "../../engines/training"))
from export import OPSET, ExportedPmn, fold  # noqa: E402
from networks import DESCRIPTIONS, FEATURES, MMFace  # noqa: E402


def hollow(path):
    """Replaces the large weights of a file by nodes that make them."""
    model = onnx.load(path)
    graph, nodes, kept = model.graph, [], []
    for weight in graph.initializer:
        if np.prod(weight.dims) <= 16:
            kept.append(weight)
            continue
        shape = numpy_helper.from_array(np.array(weight.dims, np.int64), weight.name + "/shape")
        value = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.01])
        kept.append(shape)
        nodes.append(helper.make_node("ConstantOfShape", [shape.name], [weight.name], value=value))
    nodes.extend(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def main():
    model = fold(copy.deepcopy(MMFace(DESCRIPTIONS["mmface-paper"]).eval()))
    image = torch.zeros(1, 3, 256, 256, dtype=torch.uint8)
    features = torch.zeros(1, FEATURES, 64, 64)
    for name, module, example, inputs, outputs in [
        ("vmn", model.vmn, image, ["image"], ["features"]),
        ("pmn", ExportedPmn(model.pmn).eval(), features, ["features"], ["pose", "identity", "expression", "presence"]),
    ]:
        path = HERE / f"paper-{name}.onnx"
        torch.onnx.export(module, (example,), path, input_names=inputs, output_names=outputs, opset_version=OPSET,
                          dynamic_axes={n: {0: "N"} for n in inputs + outputs}, dynamo=False)
        hollow(path)
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
