//! ARKit's 52 coefficients from the face model's expression.

/// Number of coefficients.
pub const COUNT: usize = 52;

/// The coefficients of one face, 0…1, in the order of [`NAMES`].
pub type Coefficients = [f32; COUNT];

/// ARKit's names, in the order in which Live Link Face sends them.
pub const NAMES: [&str; COUNT] = [
    "eyeBlinkLeft",
    "eyeLookDownLeft",
    "eyeLookInLeft",
    "eyeLookOutLeft",
    "eyeLookUpLeft",
    "eyeSquintLeft",
    "eyeWideLeft",
    "eyeBlinkRight",
    "eyeLookDownRight",
    "eyeLookInRight",
    "eyeLookOutRight",
    "eyeLookUpRight",
    "eyeSquintRight",
    "eyeWideRight",
    "jawForward",
    "jawLeft",
    "jawRight",
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthLeft",
    "mouthRight",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "noseSneerLeft",
    "noseSneerRight",
    "tongueOut",
];

/// Place of a coefficient.
#[must_use]
pub fn index(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

/// Reads a coefficient by its name; 0 for a name that is none.
#[must_use]
pub fn value(coefficients: &Coefficients, name: &str) -> f32 {
    index(name).map_or(0.0, |at| coefficients[at])
}

/// The mean of a coefficient's two sides.
#[must_use]
pub fn both(coefficients: &Coefficients, stem: &str) -> f32 {
    let side = |side: &str| value(coefficients, &format!("{stem}{side}"));
    f32::midpoint(side("Left"), side("Right"))
}

/// A name with a large first letter, as some receivers want it.
#[must_use]
pub fn pascal(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// For each coefficient, its sources among the face model's expressions.
#[derive(Debug, Clone)]
pub struct Mapping(Vec<Vec<usize>>);

impl Mapping {
    /// Maps a face model's expressions, by their names. A coefficient that the model has for each
    /// side is the mean of both (`browInnerUp`, `cheekPuff`). One that it lacks is 0 (`tongueOut`).
    #[must_use]
    pub fn new(expressions: &[String]) -> Self {
        let find = |name: &str| expressions.iter().position(|known| known == name);
        let sources = |name: &&str| match find(name) {
            Some(same) => vec![same],
            None => ["Left", "Right"].iter().filter_map(|s| find(&format!("{name}{s}"))).collect(),
        };
        Self(NAMES.iter().map(sources).collect())
    }

    /// The coefficients of an expression, each within 0…1.
    #[must_use]
    pub fn coefficients(&self, expression: &[f32]) -> Coefficients {
        let mut all = [0.0; COUNT];
        for (value, sources) in all.iter_mut().zip(&self.0) {
            let sum: f32 = sources.iter().filter_map(|at| expression.get(*at)).sum();
            *value = (sum / sources.len().max(1) as f32).clamp(0.0, 1.0);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::face_model;

    #[test]
    fn every_coefficient_but_the_tongue_has_a_source() {
        let Mapping(sources) = Mapping::new(&face_model().expressions);
        for (name, sources) in NAMES.iter().zip(sources) {
            let expected = match *name {
                "browInnerUp" | "cheekPuff" => 2,
                "tongueOut" => 0,
                _ => 1,
            };
            assert_eq!(sources.len(), expected, "{name}");
        }
    }

    #[test]
    fn values_arrive_under_their_names() {
        let model = face_model();
        let names = &model.expressions;
        let mut expression = vec![0.0; names.len()];
        for (name, value) in [
            ("mouthSmileLeft", 0.8),
            ("cheekPuffLeft", 0.2),
            ("cheekPuffRight", 0.6),
            ("jawOpen", 1.7),
        ] {
            expression[names.iter().position(|n| n == name).expect("a name")] = value;
        }
        let seen = Mapping::new(names).coefficients(&expression);
        let of = |name| value(&seen, name);
        assert_eq!((of("mouthSmileLeft"), of("mouthSmileRight"), of("jawOpen")), (0.8, 0.0, 1.0));
        assert!((of("cheekPuff") - 0.4).abs() < 1e-6);
        assert_eq!(Mapping::new(&[]).coefficients(&[0.5]), [0.0; COUNT]);
    }
}
