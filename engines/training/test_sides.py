"""Left and right: pairs, one-sided faces, slopes, the warp of a photo, shares of samples, and making that goes on.

    python test_sides.py
"""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import data
import sides
import turn
import warp
from morphable import FaceModel

NAMES = FaceModel(Path(__file__).parent / "../face-model.safetensors").expression_names


def pairs():
    named = [name for name, *_ in sides.sides(NAMES)]
    assert len(named) == 18 and {"eyeBlink", "mouth", "jaw", "browInnerUp"} <= {*named} and "eyeLookIn" not in named
    assert {part[0] for kind in sides.KINDS for part in kind[1:]} <= {*named}
    face = np.zeros((1, len(NAMES)))
    face[0, NAMES.index("mouthLeft")], face[0, NAMES.index("eyeBlinkRight")] = 0.5, 0.8
    apart = dict(zip(named, sides.difference(face, NAMES)[0]))
    assert apart["mouth"] == 0.5 and apart["eyeBlink"] == -0.8 and sum(map(abs, apart.values())) == 1.3


def one_sided_faces():
    random, own = np.random.default_rng(0), np.full(len(NAMES), 0.1, np.float32)
    drawn = np.stack([sides.one_sided(random, own, NAMES) for _ in range(400)])
    assert drawn.min() >= 0 and drawn.max() <= 1 and drawn.dtype == np.float32
    apart = sides.difference(drawn, NAMES)
    assert (np.abs(apart).max(1) > 0.15).all(), "each has a side"
    meant = [[name for name, *_ in sides.sides(NAMES)].index(kind[1][0]) for kind in sides.KINDS]
    assert (np.abs(apart) > 0.15).mean(0)[meant].min() > 0.01, "each side is drawn"
    assert np.abs((apart > 0.15).mean(0) - (apart < -0.15).mean(0)).max() < 0.06, "left as often as right"
    aside = drawn[:, [NAMES.index("mouthLeft"), NAMES.index("mouthRight")]]
    assert aside.min(1).max() < 0.11, "a mouth goes to one side only"
    blinks = [NAMES.index("eyeBlinkLeft"), NAMES.index("eyeBlinkRight")]
    without = np.stack([sides.one_sided(random, own, NAMES, without=("eyeBlink",)) for _ in range(100)])
    assert (without[:, blinks] == own[blinks]).all()


def posed_faces():
    random, own = np.random.default_rng(0), np.full(len(NAMES), 0.1, np.float32)
    drawn = np.stack([sides.posed(random, own, NAMES) for _ in range(3000)])
    assert drawn.min() >= 0 and drawn.max() <= 1 and drawn.dtype == np.float32
    shown = (drawn > 0.15).mean(0)
    said = [k for k, name in enumerate(NAMES) if name[:9] not in ("eyeLookIn", "eyeLookOu") and name != "tongueOut"]
    assert 0.02 < shown[said].min() and shown[said].max() < 0.12, "each as often as another"
    assert shown.sum() == shown[said].sum()
    assert (drawn.max(1) == 0).mean() > 0.03, "some are at rest"


def slopes():
    random = np.random.default_rng(1)
    theirs = random.uniform(0, 1, (500, len(NAMES)))
    ours = theirs.copy()
    both = np.stack([sides.shared(theirs, NAMES), sides.difference(theirs, NAMES)])
    for k, (_, left, right) in enumerate(sides.sides(NAMES)):  # half of what differs, all of what is shared
        ours[:, left], ours[:, right] = both[0][:, k] + both[1][:, k] / 4, both[0][:, k] - both[1][:, k] / 4
    for part, slope in ((sides.difference, 0.5), (sides.shared, 1.0)):
        found = sides.slopes(part(ours, NAMES), part(theirs, NAMES))
        assert np.allclose(found, [[slope] * 18, [1] * 18])
    theirs[:, NAMES.index("jawLeft")] = theirs[:, NAMES.index("jawRight")]
    theirs[3] = np.nan  # a picture in which MediaPipe found no face
    found = sides.brief(ours, theirs, NAMES)
    assert "jaw" not in found and found["mouth"] == [0.5, 1.0]
    assert len(sides.table(ours, theirs, NAMES)) == 2 + 17


def the_warp():
    side = warp.TURNED
    y, x = np.mgrid[40:281:20, 40:281:20].astype(np.float32)
    before = np.stack([x, y, 0 * x], -1).reshape(-1, 3)
    n = len(x)
    first = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    # clockwise as seen with y down: facing the camera
    triangles = np.concatenate([np.stack([first, first + n, first + n + 1], -1), np.stack([first, first + n + 1, first + 1], -1)])
    none = np.zeros(len(triangles), bool)
    field, hidden = warp.warp_field(before, before, triangles, none)
    rows, columns = np.mgrid[:side, :side]
    assert np.abs(field - np.stack([columns, rows], -1)).max() < 1e-3 and hidden.max() == 0, "nothing moves, nothing is warped"
    after = before.copy()
    after[len(after) // 2, 0] += 6  # the middle goes to the right
    field, hidden = warp.warp_field(before, after, triangles, none)
    assert np.abs(field[160, 166] - [160, 160]).max() < 0.5, "what was in the middle is now right of it"
    assert np.abs(field[60, 60] - [60, 60]).max() < 1e-3 and np.abs(field[300, 160] - [160, 300]).max() < 0.5
    photo = np.zeros((side, side, 3), np.uint8)
    photo[158:163, 158:163] = 255
    moved = warp.warped(np.random.default_rng(0), photo, before, after, triangles, none)
    assert np.abs(np.argwhere(moved[..., 0] > 128).mean(0) - [160, 166]).max() < 1.5, "and so the photo"
    labels = before[::7, :2] + 2
    drawn = turn.drawn_to_labels(before[:, :2], before[::7, :2], labels)
    assert np.abs(drawn[::7] - labels).max() < 1.2 and np.abs(drawn - before[:, :2]).max() < 3


def how_often():
    random, n = np.random.default_rng(2), 1000
    source = np.array(["HELEN (300-W)"] * 700 + ["expressions"] * 200 + ["turned"] * 50 + ["warped"] * 50)
    fits = SimpleNamespace(source=source, habit=np.zeros(n, int), hand=source == "HELEN (300-W)",
                           person=np.array([*map(str, range(700)), *["a"] * 150, *["b"] * 50, *map(str, range(100))]),
                           pose=random.normal(0, 10, (n, 7)), expression=random.uniform(0, 1, (n, len(NAMES))))
    weight = data.row_weights(fits, np.arange(n), NAMES, data.shares("turned=0.3,warped=0.2"), few_people=0.1)
    weight /= weight.sum()
    of = lambda mask: weight[mask].sum()
    assert np.isclose(of(source == "turned"), 0.3) and np.isclose(of(source == "warped"), 0.2)
    assert np.isclose(of(source == "expressions"), 0.1 * 0.5)
    assert np.isclose(of(fits.person == "a"), of(fits.person == "b")), "each of the few people as often as another"
    usual = data.row_weights(fits, np.arange(n), NAMES)
    assert usual[source == "warped"].sum() == 0, "what nobody asked for is not drawn"
    try:
        data.shares("wraped=0.2")
    except ValueError:
        return
    raise AssertionError("a share of something unknown was taken")


def goes_on():
    face = lambda k: (np.full((data.TURNED, data.TURNED, 3), k % 251, np.uint8), {
        "i": k % 5, "landmarks": np.full((68, 2), k, np.float32), "pose": np.zeros(7, np.float32),
        "expression": np.zeros(53, np.float32)})

    def cut_short(count):
        for k in range(count):
            yield face(k)
        raise KeyboardInterrupt

    fits = SimpleNamespace(split=np.array(["train"] * 5), identity=np.zeros((5, 60), np.float32), person=np.array([*"abcde"]))
    data.PART, part = 4, data.PART
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        try:
            data.Making(work, "warped", "this").take(cut_short(10))
        except KeyboardInterrupt:
            pass
        assert len(data.Making(work, "warped", "this").rows) == 8
        again = data.Making(work, "warped", "this")
        again.take(face(k) for k in range(len(again.rows), 11))
        again.finish(fits)
        pictures = np.fromfile(work / "warped.bin", np.uint8).reshape(11, -1)
        assert (pictures[:, 0] == np.arange(11)).all()
        made = np.load(work / "warped.npz")
        assert (made["landmarks"][:, 0, 0] == np.arange(11)).all() and made["picture"][6] == "warped 1"
        data.Making(work, "warped", "this").take(map(face, range(4)))
        assert len(data.Making(work, "warped", "another").rows) == 0, "what was made of other fits is made anew"
    data.PART = part


def main():
    for test in (pairs, one_sided_faces, posed_faces, slopes, the_warp, how_often, goes_on):
        test()
        print("ok", test.__name__.replace("_", " "))


if __name__ == "__main__":
    main()
