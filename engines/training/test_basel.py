"""A model in the shape of Basel's goes in, in every form that basel.py takes; the same faces come out.

    python test_basel.py
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from safetensors import safe_open
from scipy.io import savemat

import basel


def synthetic(rng):
    """A lumpy half ellipsoid with 199 + 29 modes, in micrometres: names of face3d, and what they mean in centimetres."""
    across, down = np.meshgrid(np.linspace(-1.3, 1.3, 25), np.linspace(-1.2, 1.2, 21))
    mean = np.stack([8 * np.sin(across) * np.cos(down), 10 * np.sin(down), 7 * np.cos(across) * np.cos(down)], -1).reshape(-1, 3)
    first = (np.arange(20)[:, None] * 25 + np.arange(24)).ravel()
    triangles = np.concatenate([np.stack([first, first + 1, first + 26], -1), np.stack([first, first + 26, first + 25], -1)])
    eyes = [int(np.abs(mean - [x, 2, 6]).sum(1).argmin()) for x in [-4, -3.5, -3, -2.5, -2, -1.5, 1.5, 2, 2.5, 3, 3.5, 4]]
    landmarks = rng.integers(0, len(mean), 68)
    landmarks[36:48] = eyes
    model = {"shapeMU": mean.reshape(-1, 1) * 1e4, "shapePC": rng.standard_normal((mean.size, 199)),
             "shapeEV": np.geomspace(9e3, 40, 199)[:, None], "expMU": np.full((mean.size, 1), 100.0),
             "expPC": rng.standard_normal((mean.size, 29)), "expEV": np.geomspace(4e3, 90, 29)[:, None],
             "tri": triangles.T[:, :] + 1, "kpt_ind": landmarks[None] + 1}
    return model, triangles, landmarks


def check(arrays, model, triangles, landmarks, folder):
    tensors, metadata = basel.convert(arrays)
    basel.save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / "out.safetensors", metadata)
    with safe_open(folder / "out.safetensors", "numpy") as file:
        ours = {k: file.get_tensor(k) for k in file.keys()}
    assert (len(ours["identity"]), len(ours["expression"])) == (199, 29) and len(json.loads(metadata["expression_names"])) == 29
    rng = np.random.default_rng(1)
    for _ in range(5):  # coefficients in standard deviations, as the records carry them
        a, e = rng.standard_normal(199), rng.standard_normal(29)
        theirs = (model["shapeMU"] + model["expMU"] + model["shapePC"] @ (a[:, None] * model["shapeEV"])
                  + model["expPC"] @ (e[:, None] * model["expEV"])).reshape(-1, 3) / 1e4
        face = ours["mean"] + np.tensordot(a * ours["identity_scale"], ours["identity"], 1) \
            + np.tensordot(e * ours["expression_scale"], ours["expression"], 1)
        assert np.abs(face - theirs).max() < 2e-3, np.abs(face - theirs).max()  # cm: rounding of 228 modes to int16
    assert (ours["landmarks3d_vertices"][:, 0] == landmarks).all() and ours["landmark_vertices"].shape == (2, 68, 3)
    assert {frozenset(t) for t in ours["triangles"].tolist()} == {frozenset(t) for t in triangles.tolist()}
    corner = ours["mean"][ours["triangles"]]
    outwards = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])[:, 2]
    assert (outwards > -1e-6).all(), "triangles are counter-clockwise seen from outside"


def refused(arrays, **changed):
    try:
        basel.convert({**arrays, **changed})
    except SystemExit as error:
        return str(error)
    raise AssertionError(f"{list(changed)} was taken")


def main():
    model, triangles, landmarks = synthetic(np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        savemat(folder / "BFM.mat", {"model": model})
        names = dict(zip(("shapeMU", "shapePC", "shapeEV", "expMU", "expPC", "expEV", "tri", "kpt_ind"),
                         ("mu_shape", "w", "sigma", "mu_exp", "w_exp", "sigma_exp", "tri", "keypoints")))
        renamed = {names[k]: v for k, v in model.items()}
        savemat(folder / "Model_Shape.mat", {k: v for k, v in renamed.items() if "exp" not in k})
        savemat(folder / "Model_Exp.mat", {k: v for k, v in renamed.items() if "exp" in k})
        np.savez(folder / "model.npz", **model)
        for files in (["BFM.mat"], ["Model_Shape.mat", "Model_Exp.mat"], ["model.npz"]):
            check(basel.read([folder / f for f in files]), model, triangles, landmarks, folder)
            print("ok", *files)
    assert "point outside" in refused(model, tri=model["tri"] - 1)
    assert "subject's left" in refused(model, shapeMU=(model["shapeMU"].reshape(-1, 3) * [-1, 1, 1]).reshape(-1, 1))
    assert "199 or more" in refused(model, shapePC=model["shapePC"][:, :80])
    assert "expPC" in refused({k: v for k, v in model.items() if k != "expPC"})
    print("ok what is wrong is refused")


if __name__ == "__main__":
    main()
