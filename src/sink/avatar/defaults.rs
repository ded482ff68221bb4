//! The curves of coefficients as they are without a file.

use super::arkit::{COUNT, NAMES};
use super::tune::Curve;

/// For each coefficient, by its name without the side: what counts as nothing, which becomes 0, and
/// what counts as all, which becomes 1. They are the 25th and the 98th percentile of the networks'
/// answers to people who make strong faces. Coefficients whose 98th percentile is below 0.25 are
/// left as they are, since a large gain would mostly show noise; so are those of gaze.
const MEASURED: [(&str, f32, f32); 11] = [
    ("browDown", 0.02, 0.44),
    ("browInnerUp", 0.06, 0.99),
    ("browOuterUp", 0.09, 0.95),
    ("eyeBlink", 0.02, 0.75),
    ("eyeSquint", 0.11, 0.60),
    ("eyeWide", 0.02, 0.25),
    ("jawOpen", 0.10, 0.71),
    ("mouthLowerDown", 0.02, 0.39),
    ("mouthPucker", 0.03, 0.95),
    ("mouthSmile", 0.03, 0.85),
    ("mouthUpperUp", 0.04, 0.50),
];

/// The curve of each coefficient, in the order of [`NAMES`].
pub(super) fn curves() -> [Curve; COUNT] {
    NAMES.map(|name| {
        let stem = name.strip_suffix("Left").or(name.strip_suffix("Right")).unwrap_or(name);
        let known = MEASURED.iter().find(|(known, _, _)| *known == name || *known == stem);
        known.map_or(Curve::PLAIN, |&(_, neutral, strong)| Curve {
            dead_zone: neutral,
            gain: (1.0 - neutral) / (strong - neutral),
            ..Curve::PLAIN
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::avatar::arkit;

    #[test]
    fn what_was_measured_reaches_both_ends() {
        let curves = curves();
        for (stem, neutral, strong) in MEASURED {
            let names = [stem.into(), format!("{stem}Left"), format!("{stem}Right")];
            let places: Vec<_> = names.iter().filter_map(|name| arkit::index(name)).collect();
            assert!(!places.is_empty(), "{stem}");
            for at in places {
                assert_eq!(curves[at].apply(neutral), 0.0, "{stem}");
                assert!(curves[at].apply(strong) > 0.999, "{stem}");
                let middle = curves[at].apply(f32::midpoint(neutral, strong));
                assert!((middle - 0.5).abs() < 1e-3, "{stem}");
            }
        }
    }
}
