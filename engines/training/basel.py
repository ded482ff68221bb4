"""Makes a face model file for the program from a Basel-style model: 199 identity and 29 expression modes.

The Basel Face Model and the expressions that go with it are licensed and not here; whoever has them names their files:

    python basel.py BFM.mat --out basel.safetensors                         as face3d's generate.m writes it
    python basel.py Model_Shape.mat Model_Exp.mat --out basel.safetensors   as 300W-LP and 3DDFA ship them
    python basel.py model.npz --out basel.safetensors                       the same arrays by numpy

Arrays, by either set of names (V vertices, T triangles; micrometres; x to the subject's left, y up, z out of the face;
flat arrays run x, y, z of the first vertex, then of the second, …; indices count from 1):

    shapeMU or mu_shape [3V]   shapePC or w [3V, K]       shapeEV or sigma [K]       mean, modes, standard deviations
    expMU or mu_exp [3V]       expPC or w_exp [3V, E]     expEV or sigma_exp [E]     the same of expressions
    tri [3, T] or [T, 3]       kpt_ind or keypoints [68]  triangles, and the 68 landmarks as vertices

Coefficients in the records are then standard deviations of these modes, identity and expression alike; unit: centimetre.
Landmarks stay on their vertices: the contour does not follow the visible outline of a turned face. Modes of a PCA are
nearly symmetric, not quite: what training takes for a mirrored face (a sign for each mode) is an approximation.

    python basel.py --stand-in ../face-model.safetensors --out stand-in.safetensors

makes a file of the same shape without the Basel model: the mean face, modes and landmarks of ours, expressions cut to 29,
identity modes filled up to 199 with modes that do nothing. With it everything runs; it is not the Basel model.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.spatial import cKDTree

IDENTITY, EXPRESSION = 199, 29
CM = 1e-4  # a micrometre
NAMES = {"mean": ("shapeMU", "mu_shape"), "identity": ("shapePC", "w"), "identity_sd": ("shapeEV", "sigma"),
         "expression_mean": ("expMU", "mu_exp"), "expression": ("expPC", "w_exp"), "expression_sd": ("expEV", "sigma_exp"),
         "triangles": ("tri",), "landmarks": ("kpt_ind", "keypoints")}


def read(paths):
    """All arrays of the files, by name."""
    arrays = {}
    for path in paths:
        if path.suffix == ".npz":
            arrays.update(np.load(path, allow_pickle=False))
            continue
        from scipy.io import loadmat
        content = loadmat(path)
        if "model" in content:  # face3d keeps everything in one struct
            arrays.update({name: content["model"][name][0, 0] for name in content["model"].dtype.names})
        arrays.update({k: v for k, v in content.items() if isinstance(v, np.ndarray)})
    return arrays


def pick(arrays, what):
    for name in NAMES[what]:
        if name in arrays:
            return np.asarray(arrays[name], np.float64)
    raise SystemExit(f"basel.py: there is no array {' or '.join(NAMES[what])}: name the files that hold all of them (--help)")


def quantise(field):
    """[N,V,3] cm -> int16 and cm per step [N]."""
    scale = np.maximum(np.abs(field).max((1, 2)), 1e-9) / 32767
    return np.rint(field / scale[:, None, None]).astype(np.int16, order="C"), scale.astype(np.float32)


def convert(arrays, identity=IDENTITY, expression=EXPRESSION):
    """The tensors of our file."""
    mean = (pick(arrays, "mean").reshape(-1, 3) + pick(arrays, "expression_mean").reshape(-1, 3)) * CM

    def modes(what, count):
        basis, deviation = pick(arrays, what), pick(arrays, f"{what}_sd").ravel()
        if basis.shape[0] != mean.size or basis.shape[1] < count or len(deviation) < count:
            raise SystemExit(f"basel.py: {what} is {basis.shape}, not [{mean.size}, {count} or more]")
        return (basis[:, :count] * deviation[:count]).T.reshape(count, -1, 3) * CM

    triangles = pick(arrays, "triangles").astype(np.int64) - 1
    triangles = triangles.T if triangles.shape[0] == 3 else triangles
    landmarks = pick(arrays, "landmarks").astype(np.int64).ravel() - 1
    if len(landmarks) != 68 or min(landmarks.min(), triangles.min()) < 0 or max(landmarks.max(), triangles.max()) >= len(mean):
        raise SystemExit("basel.py: triangles or the 68 landmarks point outside the mesh: do they count from 1?")
    if mean[landmarks[36:42], 0].mean() > mean[landmarks[42:48], 0].mean():
        raise SystemExit("basel.py: the subject's right eye (36-41) lies to the left: x must point to the subject's left")
    corner = mean[triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    if (normal * (corner.mean(1) - mean.mean(0))).sum() < 0:  # ours are counter-clockwise seen from outside
        triangles = triangles[:, ::-1]
    tensors = {"mean": mean.astype(np.float32), "triangles": triangles.astype(np.int32),
               "triangle_region": np.zeros(len(triangles), np.uint8), "volume_centre": np.float32([0, 0, 3]),
               "landmark_yaw_bins": np.float32([-90, 90])}
    for kind, count in (("identity", identity), ("expression", expression)):
        tensors[kind], tensors[f"{kind}_scale"] = quantise(modes(kind, count))
    # for flipped pictures in training: the vertex opposite, and whether a mode turns into itself or its negative
    mirror = cKDTree(mean).query(mean * [-1, 1, 1])[1]
    flipped = tensors["identity"][:, mirror] * np.array([-1.0, 1, 1])
    signs = np.where((tensors["identity"] * flipped).sum((1, 2)) < 0, -1, 1)
    tensors["mirror"] = mirror.astype(np.int32)
    for table, shape in (("landmark", (2, 68, 3)), ("landmarks3d", (68, 3))):
        tensors[f"{table}_vertices"] = np.broadcast_to(landmarks[:, None], shape).astype(np.int32)
        tensors[f"{table}_weights"] = np.broadcast_to(np.float32([1, 0, 0]), shape)
        tensors[f"{table}_offsets"] = np.zeros(shape, np.float32)
    return tensors, {"name": "basel", "regions": json.dumps(["face"]), "arkit52": "{}",
                     "identity_mirror": json.dumps(signs.tolist()), "expression_mirror": json.dumps(list(range(expression))),
                     "expression_names": json.dumps([f"expression{i:02}" for i in range(expression)])}


def stand_in(path):
    """Our face model in the shape of Basel's."""
    with safe_open(path, "numpy") as file:
        tensors, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()
    names = json.loads(metadata["expression_names"])[:EXPRESSION]
    tensors["expression"], tensors["expression_scale"] = (tensors[k][:EXPRESSION] for k in ("expression", "expression_scale"))
    idle = IDENTITY - len(tensors["identity"])
    tensors["identity"] = np.pad(tensors["identity"], ((0, idle), (0, 0), (0, 0)))
    tensors["identity_scale"] = np.pad(tensors["identity_scale"], (0, idle))
    metadata["identity_mirror"] = json.dumps(json.loads(metadata["identity_mirror"]) + [1] * idle)
    metadata["expression_mirror"] = json.dumps([min(k, EXPRESSION - 1) for k in json.loads(metadata["expression_mirror"])[:EXPRESSION]])
    known = {k: [[n, w] for n, w in v if n in names] for k, v in json.loads(metadata["arkit52"]).items()}
    return tensors, {**metadata, "name": "stand-in", "expression_names": json.dumps(names), "arkit52": json.dumps(known)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help=".mat or .npz files that together hold the arrays")
    parser.add_argument("--stand-in", type=Path, metavar="MODEL", help="instead: our own model in the shape of Basel's")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if bool(options.files) == bool(options.stand_in):
        parser.error("name the files of the Basel model, or --stand-in")
    tensors, metadata = stand_in(options.stand_in) if options.stand_in else convert(read(options.files))
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, options.out, metadata)
    print(f"wrote {options.out}: {len(tensors['mean'])} vertices, {len(tensors['identity'])} identity and "
          f"{len(tensors['expression'])} expression modes ({options.out.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
