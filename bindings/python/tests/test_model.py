"""The face model and its meshes."""

import re

import mmface
import numpy as np
import pytest


def test_the_model():
    model = mmface.face_model()
    assert len(model.expressions) == 53 and model.identities == 60
    mean = model.shape()
    assert mean.ndim == 2 and mean.shape[1] == 3 and mean.dtype == np.float32
    assert model.triangles.dtype == np.uint32 and model.triangles.max() < len(mean)
    # Centimetres: a head is about 20 high.
    assert 15 < np.ptp(mean[:, 1]) < 40
    assert repr(model).startswith("<FaceModel") and len(model.hash) == 64


def test_weights_move_the_mesh():
    model = mmface.face_model()
    mean = model.shape()
    jaw = model.expressions.index("jawOpen")
    open_mouth = model.shape(expression={"jawOpen": 1})
    assert np.abs(open_mouth - mean).max() > 0.5
    assert (model.shape(expression=np.eye(53)[jaw]) == open_mouth).all()
    assert (model.shape([], [0.0] * jaw + [1.0]) == open_mouth).all()
    assert not (model.shape(identity=[2.0]) == mean).all()
    both = model.shape(identity=[2.0], expression={"jawOpen": 1})
    assert both - model.shape(identity=[2.0]) == pytest.approx(open_mouth - mean, abs=1e-4)
    for arguments, sentence in [
        ({"expression": {"wings": 1}}, "no expression 'wings': face_model().expressions"),
        ({"expression": {"jawOpen": "wide"}}, "the weight of 'jawOpen' must be a finite number"),
        ({"expression": {"jawOpen": float("nan")}}, "must be a finite number"),
        ({"expression": [0] * 54}, "expression must be a list of at most 53 finite numbers"),
        ({"identity": [float("inf")]}, "identity must be a list of at most 60 finite numbers"),
        ({"identity": "me"}, "identity must be a list of at most 60 finite numbers, not 'me'"),
        ({"identity": [[1.0], [2.0]]}, "identity must be a list"),
    ]:
        with pytest.raises(mmface.Error, match=re.escape(sentence)):
            model.shape(**arguments)


def test_a_mesh(stills, portrait, tmp_path):
    [face] = stills.process(portrait, format="rgb")
    model = mmface.face_model()
    mesh = model.mesh(face)
    assert (mesh.vertices == face.vertices()).all()
    assert (mesh.triangles == model.triangles).all()
    # The projection of docs/conventions.md.
    w, x, y, z = face.q.astype(float)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    shape = model.shape(face.identity, face.expression)
    camera = face.f * shape @ rotation.T
    assert mesh.vertices == pytest.approx(camera * [1, -1, 1] + face.t, abs=0.01)
    for name, start in [("a.glb", b"glTF"), ("a.PLY", b"ply"), ("a.obj", b"")]:
        mesh.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    for path, sentence in [
        (tmp_path / "a.stl", "a mesh is written as .glb, .ply or .obj"),
        (tmp_path / "none" / "a.glb", "cannot write"),
        (3, "path must be a path"),
    ]:
        with pytest.raises(mmface.Error, match=sentence):
            mesh.save(path)
    with pytest.raises(mmface.Error, match="mesh\\(\\) takes a Face, not 'Anna'"):
        model.mesh("Anna")
    with pytest.raises(mmface.Error, match="/nonexistent/manifest.toml"):
        mmface.face_model("/nonexistent")
