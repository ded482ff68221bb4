//! VRM's five visemes, five emotions and two blinks from ARKit's coefficients, for avatars that know
//! only those.

use super::arkit::{self, Coefficients, both};

/// Number of shapes.
pub(super) const COUNT: usize = 12;

/// Their names in VRM 0.x.
pub(super) const VRM0: [&str; COUNT] =
    ["A", "I", "U", "E", "O", "Joy", "Angry", "Sorrow", "Fun", "Surprised", "Blink_L", "Blink_R"];

/// Their names in VRM 1.0.
pub(super) const VRM1: [&str; COUNT] = [
    "aa",
    "ih",
    "ou",
    "ee",
    "oh",
    "happy",
    "angry",
    "sad",
    "relaxed",
    "surprised",
    "blinkLeft",
    "blinkRight",
];

/// The shapes, each 0…1, in the order of the names. All visemes together are at most 1, and so are
/// all emotions.
pub(super) fn shapes(c: &Coefficients) -> [f32; COUNT] {
    let of = |name: &str| arkit::value(c, name);
    let [aa, ih, ou, ee, oh] = visemes(c);
    let [happy, angry, sad, relaxed, surprised] = emotions(c);
    let blinks = (of("eyeBlinkLeft"), of("eyeBlinkRight"));
    [aa, ih, ou, ee, oh, happy, angry, sad, relaxed, surprised, blinks.0, blinks.1]
}

/// aa, ih, ou, ee, oh. The mouth is shared out: first by how round it is, then by how open it is,
/// then by how wide it is.
fn visemes(c: &Coefficients) -> [f32; 5] {
    let of = |name: &str| arkit::value(c, name);
    let open = of("jawOpen") * (1.0 - of("mouthClose"));
    let round = of("mouthPucker").max(of("mouthFunnel"));
    let wide = (both(c, "mouthStretch") + 0.5 * both(c, "mouthSmile")).min(1.0);
    // A smile with closed lips is no sound.
    let apart = both(c, "mouthLowerDown").max(both(c, "mouthUpperUp"));
    let flat = 1.0 - round;
    [
        flat * open * (1.0 - wide),
        flat * (1.0 - open) * wide * apart,
        round * (1.0 - open),
        flat * open * wide,
        round * open,
    ]
}

/// happy, angry, sad, relaxed, surprised.
fn emotions(c: &Coefficients) -> [f32; 5] {
    let of = |name: &str| arkit::value(c, name);
    let (smile, lids) = (both(c, "mouthSmile"), both(c, "eyeBlink"));
    let (brow_down, brow_up) = (both(c, "browDown"), both(c, "browOuterUp"));
    let grave = 1.0 - smile;
    let all = [
        smile * (1.0 - lids),
        grave * brow_down,
        // Corners of the mouth down, or the inner ends of the brows up alone.
        grave * both(c, "mouthFrown").max(of("browInnerUp") * (1.0 - brow_up)) * (1.0 - brow_down),
        // A smile with closed eyes.
        smile * lids,
        grave * brow_up * both(c, "eyeWide").max(of("jawOpen")),
    ];
    let sum: f32 = all.iter().sum();
    all.map(|value| value / sum.max(1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The strongest shape among some of them, for a face with these coefficients.
    fn strongest(face: &[(&str, f32)], among: std::ops::Range<usize>) -> &'static str {
        let all = shapes(&with(face));
        let best = among.max_by(|a, b| all[*a].total_cmp(&all[*b])).expect("not empty");
        assert!(all[best] > 0.4, "{face:?}: {all:?}");
        VRM1[best]
    }

    fn with(face: &[(&str, f32)]) -> Coefficients {
        let mut c = [0.0; arkit::COUNT];
        for (name, value) in face {
            let sides = [(*name).into(), format!("{name}Left"), format!("{name}Right")];
            sides.iter().filter_map(|n| arkit::index(n)).for_each(|at| c[at] = *value);
        }
        c
    }

    #[test]
    fn mouths_are_their_vowels() {
        for (vowel, face) in [
            ("aa", &[("jawOpen", 0.9)][..]),
            ("ih", &[("mouthStretch", 0.9), ("mouthLowerDown", 0.8), ("jawOpen", 0.1)]),
            ("ou", &[("mouthPucker", 0.9), ("jawOpen", 0.1)]),
            ("ee", &[("jawOpen", 0.7), ("mouthStretch", 0.9)]),
            ("oh", &[("jawOpen", 0.8), ("mouthFunnel", 0.9)]),
        ] {
            assert_eq!(strongest(face, 0..5), vowel);
        }
        // Neither a closed smile nor chewing with closed lips is a sound.
        for face in [&[("mouthSmile", 1.0)][..], &[("jawOpen", 0.5), ("mouthClose", 1.0)]] {
            assert_eq!(shapes(&with(face))[..5], [0.0; 5]);
        }
    }

    #[test]
    fn faces_are_their_emotions() {
        for (emotion, face) in [
            ("happy", &[("mouthSmile", 0.9)][..]),
            ("angry", &[("browDown", 0.9), ("mouthFrown", 0.4)]),
            ("sad", &[("mouthFrown", 0.8), ("browInnerUp", 0.5)]),
            ("relaxed", &[("mouthSmile", 0.8), ("eyeBlink", 0.9)]),
            ("surprised", &[("browOuterUp", 0.9), ("browInnerUp", 0.9), ("eyeWide", 0.8)]),
        ] {
            assert_eq!(strongest(face, 5..10), emotion);
        }
        assert_eq!(shapes(&[0.0; arkit::COUNT]), [0.0; COUNT]);
        let wink = shapes(&with(&[("eyeBlinkLeft", 0.9)]));
        assert_eq!(wink[10..], [0.9, 0.0]);
    }

    proptest! {
        #[test]
        fn shapes_share_what_there_is(c in prop::collection::vec(0f32..=1.0, arkit::COUNT)) {
            let c: Coefficients = c.try_into().expect("as many");
            let all = shapes(&c);
            prop_assert!(all.iter().all(|value| (0.0..=1.0).contains(value)), "{all:?}");
            prop_assert!(all[..5].iter().sum::<f32>() < 1.001, "{all:?}");
            prop_assert!(all[5..10].iter().sum::<f32>() < 1.001, "{all:?}");
        }
    }
}
