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
from safetensors.numpy import load_file

from networks import load_trained


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "../mmface-lite")
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
        vmn, pmn, volume = (core.compile_model(options.folder / f"{n}.onnx", "CPU", settings).create_infer_request()
                            for n in ("vmn", "pmn", "volume-64"))
        features = vmn.infer({"image": reference["image"]})["features"].copy()
        outputs = {k.any_name: v.copy() for k, v in pmn.infer({"features": features}).items()}
        print(f"{precision}: largest difference from PyTorch f32")
        for name, value in outputs.items():
            print(f"  {name}: " + " ".join(f"{x:.2g}" for x in np.abs(value - reference[name]).max(0).flat[:7])
                  + f" ({np.abs(value - reference[name]).max():.3g})")
        print(f"  features_mean: {np.abs(features.mean((2, 3)) - reference['features_mean']).max():.3g}")
        slices = volume.infer({"features": features})["volume"].mean((2, 3))
        print(f"  volume_mean: {np.abs(slices - reference['volume_mean']).max():.3g}")
        one = reference["image"][:1]
        times = []
        for _ in range(options.repeats):
            start = time.perf_counter()
            pmn.infer({"features": vmn.infer({"image": one}, share_outputs=True)["features"]}, share_inputs=True)
            times.append(1e3 * (time.perf_counter() - start))
        print(f"  VMN + PMN, batch 1, {options.threads} threads: median {np.median(times):.2f} ms, "
              f"fastest {np.min(times):.2f} ms")


if __name__ == "__main__":
    main()
