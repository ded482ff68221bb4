"""Left and right: what one side of a face does and the other does not.

A *side* here is the difference of a pair of expressions, the subject's left minus the right: `eyeBlink` is eyeBlinkLeft −
eyeBlinkRight, `mouth` is mouthLeft − mouthRight (the mouth pulled aside), `jaw` likewise. The eyes' directions are left out.

Run by itself it says how well a checkpoint tells the sides apart, on validation people: on photos against the mean of
MediaPipe's scores of picture and mirror, on made faces against what they were made with.

    python sides.py --checkpoint ../mmface-lite
    python sides.py --labels            # the fits that training learns from, instead of a checkpoint
"""

import json
from pathlib import Path

import numpy as np
import torch

# What the sides of a one-sided face do: the side's names, with how far each goes (lowest, highest), of which the first is
# meant and the others come along now and then. The numbers are the coefficients' own.
KINDS = (
    (3.0, ("eyeBlink", 0.5, 1.0), ("eyeSquint", 0.0, 0.6), ("cheekSquint", 0.0, 0.6), ("mouthSmile", 0.0, 0.4)),
    (3.0, ("mouthSmile", 0.3, 1.0), ("cheekSquint", 0.0, 0.5), ("mouthDimple", 0.0, 0.4)),
    (2.0, ("mouthUpperUp", 0.3, 1.0), ("noseSneer", 0.0, 0.8), ("mouthSmile", 0.0, 0.4)),
    (2.0, ("mouthLowerDown", 0.3, 1.0), ("mouthStretch", 0.0, 0.5)),
    (3.0, ("mouth", 0.3, 1.0), ("mouthDimple", 0.0, 0.5), ("jaw", 0.0, 0.4)),
    (2.0, ("jaw", 0.3, 1.0), ("mouth", 0.0, 0.4)),
    (1.5, ("browOuterUp", 0.3, 1.0), ("browInnerUp", 0.0, 0.8)),
    (1.5, ("browDown", 0.3, 1.0), ("eyeSquint", 0.0, 0.5)),
    (0.7, ("noseSneer", 0.3, 1.0), ("mouthUpperUp", 0.0, 0.5)),
    (0.7, ("mouthDimple", 0.3, 1.0), ("mouthPress", 0.0, 0.5)),
    (0.7, ("mouthStretch", 0.3, 1.0), ("mouthFrown", 0.0, 0.5)),
    (0.7, ("mouthFrown", 0.3, 1.0), ("mouthPress", 0.0, 0.5)),
    (0.5, ("cheekPuff", 0.3, 1.0), ("mouthPress", 0.0, 0.4)),
)
# Expressions without sides that `posed` draws besides the pairs
SINGLE = ("jawOpen", "jawForward", "mouthClose", "mouthFunnel", "mouthPucker", "mouthRollLower", "mouthRollUpper",
          "mouthShrugLower", "mouthShrugUpper")
LOOKS = ("eyeLookDown", "eyeLookUp")  # of both eyes together
FEATURES = ("eyeBlink", "mouthSmile", "mouthUpperUp", "mouthLowerDown", "browOuterUp", "browDown", "mouth", "jaw")  # of tables
FRONTAL = 35.0  # degrees of yaw: of made heads turned further one side is hidden


def sides(names):
    """[(name, column of the left, column of the right)] of the expressions `names`."""
    return [(name.removesuffix("Left"), k, names.index(name.removesuffix("Left") + "Right"))
            for k, name in enumerate(names) if name.endswith("Left") and not name.startswith("eyeLook")]


def difference(expression, names):
    """[…,E] (array or tensor) -> [left − right …,S], in the order of `sides`."""
    _, left, right = zip(*sides(names))
    return expression[..., list(left)] - expression[..., list(right)]


def shared(expression, names):
    """Likewise their mean. Of mouth and jaw it means nothing."""
    _, left, right = zip(*sides(names))
    return (expression[..., list(left)] + expression[..., list(right)]) / 2


def one_sided(random, own, names, without=()):
    """The expression `own` [E] with one or two one-sided movements more; kinds that begin with a name of `without` are left
    out."""
    columns = {name: (left, right) for name, left, right in sides(names)}
    expression = own.copy()
    kinds = [kind for kind in KINDS if kind[1][0] not in without]
    chance = np.array([kind[0] for kind in kinds])
    left_side = random.random() < 0.5
    for turn in range(1 if random.random() < 0.65 else 2):
        _, meant, *along = kinds[random.choice(len(kinds), p=chance / chance.sum())]
        if turn and random.random() < 0.5:  # the second is now and then of the other side
            left_side = not left_side
        for part in (meant, *(a for a in along if random.random() < 0.4)):
            name, low, high = part
            if name in without:
                continue
            here, there = columns[name][::1 if left_side else -1]
            expression[here] = max(random.uniform(low, high), own[here] if part is not meant else 0)
            # the other side is at rest, or does a little of it; mouth and jaw go to one side only
            if name in ("mouth", "jaw"):
                expression[there] = 0
            elif part is meant:
                expression[there] = min(own[there], random.uniform(0, 0.25))
    return expression


def posed(random, own, names):
    """An expression [E] that says nothing but what is drawn: up to three movements, each expression as often as another, on
    top of a part of the expression `own`; one in ten is a face at rest. Of the eyes' directions only up and down are drawn,
    because lids that follow a look down are no blink."""
    expression = own * (random.uniform(0, 1) if random.random() < 0.4 else 0)
    expression = expression.astype(own.dtype)
    if random.random() < 0.1:
        return expression
    pairs = {name: (left, right) for name, left, right in sides(names)}
    for name in random.choice([*pairs, *SINGLE, *LOOKS], random.choice([1, 2, 3], p=[0.5, 0.3, 0.2]), replace=False):
        value = random.uniform(0.2, 1)
        if name in pairs:
            here, there = pairs[name][:: 1 if random.random() < 0.5 else -1]
            together = name not in ("mouth", "jaw") and random.random() < 0.6
            expression[here], expression[there] = value, np.clip(value + random.normal(0, 0.05), 0, 1) if together else 0
        elif name in LOOKS:
            for side in ("Left", "Right"):
                expression[names.index(name + side)] = value
        else:
            expression[names.index(name)] = value
            if name == "mouthClose":  # lips that stay shut over an open jaw
                jaw = names.index("jawOpen")
                expression[jaw] = max(expression[jaw], value)
    return expression


def slopes(ours, theirs):
    """Of columns of [n,S]: slope of ours on theirs and correlation, over the rows that are whole in both. NaN where theirs
    hardly move (standard deviation under 0.005)."""
    whole = np.isfinite(ours + theirs).all(1)
    x, y = theirs[whole] - theirs[whole].mean(0), ours[whole] - ours[whole].mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope, correlation = (x * y).mean(0) / (x * x).mean(0), (x * y).mean(0) / (x.std(0) * y.std(0))
    still = x.std(0) < 0.005
    return np.where(still, np.nan, slope), np.where(still, np.nan, correlation)


def table(ours, theirs, names, only=None):
    """Lines of a table in Markdown: ours and theirs [n,E], a row for each side: how far theirs spread, slope and correlation
    of the difference, and of what both sides share."""
    spread = difference(theirs, names)[np.isfinite(theirs).all(1)].std(0)
    lines = ["| left − right | spread | slope | r | shared: slope | r |", "|---|---|---|---|---|---|"]
    apart = slopes(difference(ours, names), difference(theirs, names))
    both = slopes(shared(ours, names), shared(theirs, names))
    number = lambda v: "–" if np.isnan(v) else f"{v:.2f}"
    for k, (name, *_) in enumerate(sides(names)):
        if (only is None or name in only) and not np.isnan(apart[0][k]):
            rest = ["", ""] if name in ("mouth", "jaw") else [number(b[k]) for b in both]
            lines.append(f"| {name} | {spread[k]:.3f} | " + " | ".join([*(number(a[k]) for a in apart), *rest]) + " |")
    return lines


def brief(ours, theirs, names):
    """{side: [slope, correlation]} of FEATURES, for logs."""
    slope, correlation = slopes(difference(ours, names), difference(theirs, names))
    return {name: [round(float(slope[k]), 2), round(float(correlation[k]), 2)]
            for k, (name, *_) in enumerate(sides(names)) if name in FEATURES and not np.isnan(slope[k])}


def both_ways(views):
    """MediaPipe's scores in label.py's views [4,n,E]: the mean of picture and mirror, so that neither side is favoured."""
    return views[:2].mean(0)


def groups(fits):
    """The pictures of validation people on which sides are measured, by name: rows, and whether MediaPipe's scores are the
    label (else what they were made with)."""
    held, source, yaw = fits.split == "validation", fits.source, np.abs(fits.pose[:fits.count, 2])
    photo = held & fits.found
    return {"photos": (np.flatnonzero(photo & (source != "expressions")), True),
            "people who pull faces": (np.flatnonzero(photo & (source == "expressions")), True),
            "rendered heads": (np.flatnonzero(held & np.isin(source, ("turned", "sided", "posed")) & (yaw < FRONTAL)), False),
            "warped photos": (np.flatnonzero(held & (source == "warped")), False)}


def measure(tell, fits, model, work, most=1500):
    """{group: (ours, theirs)} [n,E], where tell(rows) gives our expressions of rows of the fits."""
    from evaluate import teacher_scores
    result = {}
    for name, (rows, scored) in groups(fits).items():
        if len(rows):
            rows = rows[::-(-len(rows) // most)]
            result[name] = tell(rows), (both_ways(teacher_scores(work, model, fits.picture[rows])) if scored
                                        else fits.expression[rows])
    return result


def seen_by(model, pictures, fits):
    """A function for `measure`: what a network tells of the crops around the labelled points."""
    from evaluate import BATCH, crop_all, true_affines
    from networks import fast
    device = next(model.parameters()).device

    def tell(rows):
        told = []
        for some in np.split(rows, range(BATCH, len(rows), BATCH)):
            image = torch.from_numpy(np.stack(crop_all(pictures, some, true_affines(fits, some)))).permute(0, 3, 1, 2)
            with torch.no_grad(), fast(device.type):
                told.append(model(image.to(device))[3].float().cpu())
        return torch.cat(told).numpy()
    return tell


def main():
    import data
    from networks import load_trained
    parser = data.argument_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path(__file__).parent / "../mmface-lite")
    parser.add_argument("--labels", action="store_true", help="measure the fits instead of a checkpoint")
    parser.add_argument("--json", type=Path, help="write slope and correlation of the sides that matter most here")
    options = parser.parse_args()
    torch.set_num_threads(2)

    model, fits, pictures = data.load(options)
    tell = (lambda rows: fits.expression[rows]) if options.labels else seen_by(load_trained(options.checkpoint), pictures, fits)
    found = measure(tell, fits, model, options.work)
    for name, (ours, theirs) in found.items():
        print(f"{name}, {len(ours)}\n\n" + "\n".join(table(ours, theirs, model.expression_names)) + "\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps({n: brief(*both, model.expression_names) for n, both in found.items()}, indent=1))


if __name__ == "__main__":
    main()
