"""Builds engines/face-model.safetensors from ICT FaceKit (light), packed as in shared/face-model.

The skin is the source's ready simplification (every vertex is a vertex of the source, so all modes carry over), the
neck is cut short, two eyeballs are added, and the identity modes are made principal components of the face region
again. Units: centimetres; x to the subject's left, y up, z out of the face.

    python face_model.py --face-model ../../../shared/face-model --landmarks landmarks.json --out ../face-model.safetensors
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from scipy.spatial import cKDTree

REGIONS = ["face", "head_neck", "mouth", "eye", "iris", "pupil", "eye_socket"]
NECK_CUT = -12.5  # cm: skin whose three corners lie below is left out
EYE_RINGS = [8.0, 16.0, 25.0, 38.0, 54.0, 74.0, 100.0]  # degrees from the optical axis; pupil to 8, iris to 25
EYE_SEGMENTS = 16
GAZE = {"eyeLookUp": 25.0, "eyeLookDown": 30.0, "eyeLookIn": 35.0, "eyeLookOut": 30.0}  # degrees at weight 1
# The contour of the frontal landmark table minus that of AFLW2000-3D's `pt3d_68`, points 0 to 8, in % of the face's size:
# x, y, z after the inner points were laid on each other; mean of eight labelled faces, made symmetric.
CONTOUR = [(0.7, 0.1, -0.9, -1.3, -1.1, -0.5, 1.7, 2.7, 0.0),
           (4.2, 4.8, 4.4, 2.7, 2.3, 1.2, -1.3, -2.6, -1.4),
           (14.5, 16.7, 18.7, 20.1, 17.3, 12.5, 6.7, 4.0, 3.2)]
ARKIT = """eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft eyeWideLeft
eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight eyeSquintRight eyeWideRight jawForward
jawLeft jawRight jawOpen mouthClose mouthFunnel mouthPucker mouthLeft mouthRight mouthSmileLeft mouthSmileRight
mouthFrownLeft mouthFrownRight mouthDimpleLeft mouthDimpleRight mouthStretchLeft mouthStretchRight mouthRollLower
mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft mouthPressRight mouthLowerDownLeft mouthLowerDownRight
mouthUpperUpLeft mouthUpperUpRight browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff
cheekSquintLeft cheekSquintRight noseSneerLeft noseSneerRight tongueOut""".split()


def closest_on_triangles(points, vertices, triangles, candidates=24):
    """Nearest point of a surface: (triangle [N], barycentric weights [N,3], distance [N]) for points [N,3].

    Exact among the `candidates` triangles with the nearest centroids (Ericson, Real-Time Collision Detection, 5.1.5).
    """
    corners = vertices[triangles]
    _, near = cKDTree(corners.mean(1)).query(points, k=min(candidates, len(triangles)))
    a, b, c = (corners[near, i] for i in range(3))
    p = points[:, None]
    # the projection into the plane, kept where it falls inside, and the best point of each edge
    ab, ac, ap = b - a, c - a, p - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    det = np.maximum(d00 * d11 - d01 * d01, 1e-18)
    v, w = (d11 * d20 - d01 * d21) / det, (d00 * d21 - d01 * d20) / det
    options = [np.stack([1 - v - w, v, w], -1)]
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, end = (a, b, c)[i], (a, b, c)[j]
        along = np.clip(((p - start) * (end - start)).sum(-1) / np.maximum(((end - start) ** 2).sum(-1), 1e-18), 0, 1)
        edge = np.zeros(along.shape + (3,))
        edge[..., i], edge[..., j] = 1 - along, along
        options.append(edge)
    weights = np.stack(options, 2)  # N, candidates, 4, 3
    reached = np.einsum("nkoj,nkjx->nkox", weights, np.stack([a, b, c], 2))
    distance = np.linalg.norm(reached - points[:, None, None], axis=-1)
    distance[(weights < -1e-9).any(-1)] = np.inf
    best = distance.reshape(len(points), -1).argmin(1)
    rows = np.arange(len(points))
    return (near[rows, best // 4], weights.reshape(len(points), -1, 3)[rows, best],
            distance.reshape(len(points), -1)[rows, best])


def load_source(folder):
    """The source model as float arrays: mean [V,3], identity [100,V,3], expression [53,V,3], and its tables."""
    packed = np.load(folder / "ict-facekit.npz")
    source = {k: packed[k] for k in packed.files}
    for kind in ("identity", "expression"):
        source[kind] = source[kind].astype(np.float32) * source[f"{kind}_scale"][:, None, None]
    source["regions"] = {str(n): range(a, b) for n, (a, b) in zip(source["region_names"], source["region_vertices"])}
    return source


class Mesh:
    """Points that are weighted sums of three source vertices each, and triangles over them."""

    def __init__(self, vertices, triangles, regions, mirror):
        self.sources = np.repeat(vertices[:, None], 3, 1)  # [V,3] source vertices
        self.weights = np.tile(np.float32([1, 0, 0]), (len(vertices), 1))
        self.triangles, self.regions, self.mirror = triangles, regions, mirror

    def append(self, sources, weights, triangles, regions, mirror):
        first = len(self.sources)
        self.sources = np.concatenate([self.sources, sources])
        self.weights = np.concatenate([self.weights, weights.astype(np.float32)])
        self.triangles = np.concatenate([self.triangles, triangles + first])
        self.regions = np.concatenate([self.regions, regions])
        self.mirror = np.concatenate([self.mirror, mirror + first])

    def carry(self, field):
        """A field over the source's vertices [...,V,3] becomes one over ours."""
        return np.einsum("vj,...vjx->...vx", self.weights, field[..., self.sources, :])


def skin(source, folder, size):
    """The source's simplified skin with the neck cut short."""
    lod = np.load(folder / "ict-facekit-lod.npz")
    vertices, triangles, mirror = lod[f"vertices_{size}"], lod[f"triangles_{size}"], lod[f"mirror_{size}"]
    kept = triangles[~(source["mean"][vertices][triangles][..., 1] < NECK_CUT).all(1)]
    used = np.unique(kept)
    renumber = np.full(len(vertices), -1)
    renumber[used] = np.arange(len(used))
    ours = ["face", "head_neck", "mouth", "eye_socket", "eye_socket"]
    theirs = ["face", "head_neck", "mouth_socket", "eye_socket_L", "eye_socket_R"]
    region_of = np.zeros(len(vertices), np.uint8)
    for name, original in zip(ours, theirs):
        inside = source["regions"][original]
        region_of[(vertices >= inside.start) & (vertices < inside.stop)] = REGIONS.index(name)
    # a triangle on a rim shares vertices with the face: it belongs to the other side
    return Mesh(vertices[used], renumber[kept], region_of[kept].max(1), renumber[mirror[used]])


def eyeballs(source, mesh):
    """Adds two eyeballs: rings about the optical axis, each point where a ray from the centre meets the source's shell.

    Returns for each side ("L", "R") its vertex range in the mesh and the centre of rotation.
    """
    mean, mirror = source["mean"].astype(np.float64), source["mirror"]
    shell = source["regions"]["sclera_L"]
    triangles = source["triangles"]
    triangles = triangles[((triangles >= shell.start) & (triangles < shell.stop)).all(1)]
    points = mean[shell.start:shell.stop]
    centre = np.linalg.lstsq(np.c_[2 * points, np.ones(len(points))], (points**2).sum(1), rcond=None)[0][:3]
    axis = np.array([3.29, 3.62, 9.46]) - centre
    axis /= np.linalg.norm(axis)
    side = np.cross([0, 1, 0], axis)
    side /= np.linalg.norm(side)
    up = np.cross(axis, side)
    turn = np.arange(EYE_SEGMENTS) * 2 * np.pi / EYE_SEGMENTS
    rays = [axis] + [np.cos(t) * axis + np.sin(t) * (np.cos(a) * side + np.sin(a) * up)
                     for t in np.radians(EYE_RINGS) for a in turn]
    sources, weights = [], []
    corners = mean[triangles]
    for ray in rays:  # centre + s ray = sum of weights * corners, the outermost hit
        solution = np.linalg.solve(np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0],
                                             np.broadcast_to(-ray, (len(corners), 3))], -1),
                                   (centre - corners[:, 0])[..., None])[..., 0]
        bary = np.c_[1 - solution[:, 0] - solution[:, 1], solution[:, :2]]
        hit = np.where((bary > -1e-6).all(1), solution[:, 2], -np.inf).argmax()
        sources.append(triangles[hit])
        weights.append(bary[hit])
    faces, regions = [], []
    ring = lambda r, s: 1 + r * EYE_SEGMENTS + s % EYE_SEGMENTS
    for s in range(EYE_SEGMENTS):
        faces.append([0, ring(0, s), ring(0, s + 1)])
        regions.append(REGIONS.index("pupil"))
        for r in range(len(EYE_RINGS) - 1):
            quad = ring(r, s), ring(r + 1, s), ring(r + 1, s + 1), ring(r, s + 1)
            faces += [[quad[0], quad[1], quad[2]], [quad[0], quad[2], quad[3]]]
            regions += [REGIONS.index("iris" if EYE_RINGS[r + 1] <= 25 else "eye")] * 2
    faces, regions, sources, weights = np.array(faces), np.uint8(regions), np.array(sources), np.array(weights)
    count, first = len(rays), len(mesh.sources)
    mesh.append(sources, weights, faces, regions, np.arange(count) + count)
    mesh.append(mirror[sources], weights, faces[:, ::-1], regions, np.arange(count) - count)
    return {"L": (slice(first, first + count), centre),
            "R": (slice(first + count, first + 2 * count), centre * [-1, 1, 1])}


def add_gaze(names, mean, expression, balls):
    """Lets eyeLook… turn the eyeballs too (in the source only the lids move): the chord of the full turn."""
    for side, (vertices, centre) in balls.items():
        inwards = -1 if side == "L" else 1  # about y: towards image left (-x) for the subject's left eye
        for stem, degrees in GAZE.items():
            angle = np.radians(degrees)
            c, s = np.cos(angle), np.sin(angle)
            if stem in ("eyeLookUp", "eyeLookDown"):
                s = s if stem == "eyeLookDown" else -s
                turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
            else:
                s = s * (inwards if stem == "eyeLookIn" else -inwards)
                turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
            arm = mean[vertices] - centre
            expression[names.index(f"{stem}_{side}"), vertices] = arm @ turn.T - arm


def face_modes(source, kept):
    """Principal components of the face region, from the source's modes (sd 1, independent).

    Symmetric and antisymmetric modes are rotated apart from each other, so that mirroring a face flips the sign of the
    antisymmetric coefficients and nothing else. Returns the combinations [K,100], the signs [K], the share of variance.
    """
    weight = np.zeros(len(source["mean"]))
    face = source["regions"]["face"]
    weight[face.start:face.stop] = source["mean"][face.start:face.stop, 1] > NECK_CUT
    narrow = source["regions"]["narrow_face"]
    weight[narrow.start:narrow.stop] = 1
    flat = (source["identity"] * np.sqrt(weight)[:, None]).reshape(len(source["identity"]), -1)
    gram = flat @ flat.T
    combinations, variances, signs = [], [], []
    for sign in (1, -1):
        block = np.flatnonzero(source["identity_symmetry"] == sign)
        values, vectors = np.linalg.eigh(gram[np.ix_(block, block)])
        full = np.zeros((len(block), len(flat)))
        full[:, block] = vectors.T
        combinations.append(full)
        variances.append(values)
        signs.append(np.full(len(block), sign))
    combinations, variances, signs = (np.concatenate(x) for x in (combinations, variances, signs))
    order = np.argsort(-variances)[:kept]
    chosen = combinations[order]
    chosen *= np.sign(chosen[np.arange(kept), np.abs(chosen).argmax(1)])[:, None]
    return chosen, signs[order], variances[order].sum() / variances.sum()


def quantise(field):
    """[N,V,3] cm -> int16 and cm per step [N]."""
    scale = np.maximum(np.abs(field).max((1, 2)), 1e-9) / 32767
    return np.rint(field / scale[:, None, None]).astype(np.int16, order="C"), scale.astype(np.float32)


def landmark_table(table, source_mean, mean, triangles):
    """Source vertices [...,68] -> vertices, weights, offsets [...,68,3] on our mesh."""
    flat = np.asarray(table).ravel()
    hit, weights, _ = closest_on_triangles(source_mean[flat].astype(np.float64), mean, triangles)
    offsets = source_mean[flat] - np.einsum("nj,njx->nx", weights, mean[triangles[hit]])
    shape = np.shape(table) + (3,)
    return triangles[hit].reshape(shape), weights.reshape(shape), offsets.reshape(shape)


def contour3d(vertices, weights, offsets, mean, triangles):
    """The 68 landmarks of `landmarks3d` [68,3] each: those that are given, with the contour moved back to where 300W-LP and
    AFLW2000-3D have it, on the sides of the head (CONTOUR)."""
    points = np.einsum("nj,njx->nx", weights, mean[vertices]) + offsets
    size = np.sqrt(np.prod(np.ptp(points[:, :2], axis=0)))
    right = np.array(CONTOUR).T
    left = right[-2::-1] * [-1, 1, 1]
    points[:17] -= np.concatenate([right, left]) * size / 100
    hit, there, distance = closest_on_triangles(points[:17].astype(np.float64), mean, triangles)
    print(f"contour of landmarks3d: {10 * distance.max():.1f} mm from the skin at most")
    at = triangles[hit]
    beside = points[:17] - np.einsum("nj,njx->nx", there, mean[at])
    join = lambda contour, inner: np.concatenate([contour, inner[17:]])
    return join(at, vertices), join(there, weights), join(beside, offsets)


def distance_mm(source, mesh, combinations, expression, samples=12, seed=0):
    """Distance of the source's face vertices to our surface, random faces: rms, 99th percentile, maximum in mm."""
    random = np.random.default_rng(seed)
    face = source["regions"]["face"]
    points = np.arange(face.start, face.stop)
    points = points[source["mean"][points, 1] > NECK_CUT + 1]
    mean = mesh.carry(source["mean"])
    modes = mesh.carry(np.tensordot(combinations, source["identity"], 1))
    measured = []
    for _ in range(samples):
        a = random.standard_normal(len(source["identity"]))
        w = random.uniform(0, 0.7, len(expression)) * (random.random(len(expression)) < 0.15)
        full = source["mean"] + np.tensordot(a, source["identity"], 1) + np.tensordot(w, source["expression"], 1)
        ours = mean + np.tensordot(combinations @ a, modes, 1) + np.tensordot(w, expression, 1)
        measured.append(closest_on_triangles(full[points], ours, mesh.triangles)[2] * 10)
    measured = np.concatenate(measured)
    return np.sqrt((measured**2).mean()), np.percentile(measured, 99), measured.max()


def main():
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--face-model", type=Path, default=here / "../../../shared/face-model")
    parser.add_argument("--landmarks", type=Path, default=here / "landmarks.json", help="corrections that fit.py wrote")
    parser.add_argument("--out", type=Path, default=here / "../face-model.safetensors")
    parser.add_argument("--size", type=int, default=5000, help="which simplified skin of the source")
    parser.add_argument("--identity", type=int, default=60, help="modes to keep")
    options = parser.parse_args()

    source = load_source(options.face_model)
    names = [str(n) for n in source["expression_names"]]
    mesh = skin(source, options.face_model, options.size)
    balls = eyeballs(source, mesh)
    combinations, signs, share = face_modes(source, options.identity)
    mean = mesh.carry(source["mean"]).astype(np.float32)
    identity = mesh.carry(np.tensordot(combinations, source["identity"], 1))
    expression = mesh.carry(source["expression"])
    add_gaze(names, mean, expression, balls)
    rms, p99, worst = distance_mm(source, mesh, combinations, expression)
    measured = f"{rms:.2f} / {p99:.2f} / {worst:.2f} mm (rms / 99 % / max, 12 random faces with expressions)"
    print(f"{len(mean)} vertices, {len(mesh.triangles)} triangles, {options.identity} identity modes hold "
          f"{100 * share:.2f} % of the face's variance\ndistance of the source's face from ours: {measured}")

    tables = json.loads((options.face_model / "landmarks68-fitted.json").read_text())
    corrections = json.loads(options.landmarks.read_text()) if options.landmarks.exists() else {}
    skin_triangles = mesh.triangles[np.isin(mesh.regions, [0, 1, 2])]
    vertices, weights, offsets = landmark_table(tables["ibug"], source["mean"], mean, skin_triangles)
    offsets = offsets + np.array(corrections.get("ibug", 0.0))
    frontal = tables["yaw_bins_deg"].index(0)
    fixed = contour3d(*(x[frontal] for x in (vertices, weights, offsets)), mean, skin_triangles)
    quantised = {}
    for kind, field in (("identity", identity), ("expression", expression)):
        quantised[kind], quantised[f"{kind}_scale"] = quantise(field)
    arkit_spelling = [n.replace("_L", "Left").replace("_R", "Right") for n in names]
    arkit = {n: [[n, 1.0]] if n in arkit_spelling else
             [[n + s, 0.5] for s in ("Left", "Right") if n + s in arkit_spelling] for n in ARKIT}
    # safetensors writes buffers as they lie in memory: everything must be in C order
    tensors = {
        "mean": mean, **quantised,
        "triangles": mesh.triangles.astype(np.uint16),
        "triangle_region": mesh.regions.astype(np.uint8),
        "mirror": mesh.mirror.astype(np.int32),
        "landmark_yaw_bins": np.float32(tables["yaw_bins_deg"]),
        "landmark_vertices": vertices.astype(np.int32),
        "landmark_weights": weights.astype(np.float32),
        "landmark_offsets": offsets.astype(np.float32),
        "landmarks3d_vertices": fixed[0].astype(np.int32),
        "landmarks3d_weights": fixed[1].astype(np.float32),
        "landmarks3d_offsets": fixed[2].astype(np.float32),
        "volume_centre": np.float32([0, 0, 3]),
    }
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, options.out, metadata={
        "name": "mmface-ict", "version": "1", "license": "MIT",
        "source": "computed from ICT FaceKit (light), copyright (c) 2020 USC Institute for Creative Technologies, MIT",
        "regions": json.dumps(REGIONS),
        "expression_names": json.dumps(arkit_spelling),
        "expression_mirror": json.dumps(source["expression_mirror"].tolist()),
        "identity_mirror": json.dumps(signs.tolist()),
        "arkit52": json.dumps(arkit),
        "volume": "solid between the front and the back of face, head_neck and mouth along the line of sight",
        "distance_from_source": measured,
        "identity_variance_kept": f"{share:.4f}",
    })
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
