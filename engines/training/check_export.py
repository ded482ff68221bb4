"""Runs the exported files in OpenVINO on the CPU: differences from PyTorch (reference.safetensors) and time per face; and in
PyTorch, as training goes on from them.

    python check_export.py
"""

import argparse
import time
from pathlib import Path

import numpy as np
import openvino
import torch
from openvino.preprocess import PrePostProcessor
from safetensors.numpy import load_file

from networks import load_trained


def compiled(core, path, precision, settings):
    """As the program does it: for one crop, the features between the networks in what these compute in."""
    model = core.read_model(path)
    model.reshape([1, *(d.get_length() for d in [*model.input(0).partial_shape][1:])])
    ends = PrePostProcessor(model)
    features = ends.output(0) if path.stem.startswith("vmn") else ends.input(0)
    features.tensor().set_element_type(getattr(openvino.Type, precision))
    return core.compile_model(ends.build(), "CPU", settings).create_infer_request()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "../mmface-lite", help="of a variant")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    reference = load_file(options.folder / "reference.safetensors")
    with torch.no_grad():
        _, pose, *_ = load_trained(options.folder)(torch.from_numpy(reference["image"]))
    print(f"unfolded again: pose off by at most {np.abs(pose.numpy() - reference['pose']).max():.2g}")
    core = openvino.Core()
    for precision in ("f32", "bf16"):
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": options.threads,
                    "PERFORMANCE_HINT": "LATENCY"}
        vmn, pmn, volume = (compiled(core, options.folder / f"{n}.onnx", precision, settings)
                            for n in ("vmn", "pmn", "volume-64"))
        shown = []
        for image in reference["image"]:
            vmn.infer({"image": image[None]})
            for request in (pmn, volume):
                request.set_input_tensor(vmn.get_output_tensor())
                request.infer()
            shown.append({t.any_name: request.get_tensor(t).data.copy()
                          for request in (pmn, volume) for t in request.model_outputs})
        outputs = {name: np.concatenate([one[name] for one in shown]) for name in shown[0]}
        slices = outputs.pop("volume").mean((2, 3))
        print(f"{precision}: largest difference from PyTorch f32")
        for name, value in outputs.items():
            print(f"  {name}: " + " ".join(f"{x:.2g}" for x in np.abs(value - reference[name]).max(0).flat[:7])
                  + f" ({np.abs(value - reference[name]).max():.3g})")
        print(f"  volume_mean: {np.abs(slices - reference['volume_mean']).max():.3g}")
        times = []
        for _ in range(options.repeats):
            start = time.perf_counter()
            vmn.infer()
            pmn.infer()
            times.append(1e3 * (time.perf_counter() - start))
        print(f"  VMN + PMN, batch 1, {options.threads} threads: median {np.median(times):.2f} ms, "
              f"fastest {np.min(times):.2f} ms")


if __name__ == "__main__":
    main()
