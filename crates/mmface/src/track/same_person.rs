//! Whether two views show the same person.
//!
//! The evidence is a log likelihood ratio, ln p(views | same person) − ln p(views | two people):
//!
//! ```text
//! evidence = BIAS − IDENTITY·|α − ᾱ| − PATCH·d − CHROMA·c
//! ```
//!
//! |α − ᾱ| is the distance of the view's raw identity coefficients from the person's mean, in
//! standard deviations; d and c are the differences of the two [`Patch`]es and of the colours of
//! the two faces.

use super::patch::Patch;

const BIAS: f32 = 9.9;
const IDENTITY: f32 = 1.56;
const PATCH: f32 = 16.4;
const CHROMA: f32 = 11.7;

/// Largest weight of a person's mean identity, in seconds of a confident frontal view.
const MAX_WEIGHT: f32 = 10.0;
/// Least weight of a view, in seconds.
const MIN_WEIGHT: f32 = 0.003;
/// Time constant of a person's mean patch, in the same seconds.
const PATCH_SECONDS: f32 = 1.0;

/// What one view of a face tells of the person.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// Raw identity coefficients.
    pub identity: Vec<f32>,
    pub patch: Patch,
}

/// What is remembered of a person.
#[derive(Debug)]
pub(super) struct Person {
    /// Mean identity.
    identity: Vec<f32>,
    /// Total weight of the mean.
    weight: f32,
    /// Mean patch, mostly of the last second.
    usual: Patch,
    /// The last patch.
    last: Patch,
}

impl Person {
    /// A person known from a single view of `weight` seconds.
    pub(super) fn new(look: Look, weight: f32) -> Self {
        let Look { identity, patch } = look;
        Self { identity, weight: weight.max(MIN_WEIGHT), usual: patch.clone(), last: patch }
    }

    /// Takes in another view of the person.
    pub(super) fn add(&mut self, look: Look, weight: f32) {
        let weight = weight.max(MIN_WEIGHT);
        self.weight = (self.weight + weight).min(MAX_WEIGHT);
        let step = (weight / self.weight).min(1.0);
        let pairs = self.identity.iter_mut().zip(&look.identity);
        pairs.for_each(|(mean, new)| *mean += step * (new - *mean));
        self.usual.approach(&look.patch, step.max(weight / (weight + PATCH_SECONDS)));
        self.last = look.patch;
    }

    /// The evidence that a view shows this person: positive for, negative against. The patch may be
    /// like the last one or like the usual one.
    pub(super) fn evidence(&self, look: &Look) -> f32 {
        let apart = |(a, b): (&f32, &f32)| (a - b).powi(2);
        let identity = self.identity.iter().zip(&look.identity).map(apart).sum::<f32>().sqrt();
        let appearance = |patch: &Patch| {
            PATCH * patch.difference(&look.patch) + CHROMA * patch.chroma_difference(&look.patch)
        };
        BIAS - IDENTITY * identity - appearance(&self.last).min(appearance(&self.usual))
    }
}

/// The index of the one of several people whom a view shows, from the margins by which the evidence
/// for each exceeds what is asked for (log odds). `None` if it is more likely somebody else.
pub(super) fn choose(margins: &[(usize, f32)]) -> Option<usize> {
    let (best, margin) = *margins.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let others = margins.iter().filter(|(index, _)| *index != best);
    let against = 1.0 + others.map(|(_, margin)| margin.exp()).sum::<f32>();
    (margin > against.ln()).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crop::CropMap;
    use crate::image::Image;

    fn look(coefficient: f32, colour: [u8; 3]) -> Look {
        let image = Image::rgb(64, 64, colour.repeat(64 * 64)).expect("sizes fit");
        let patch = Patch::new(&image, &CropMap::square([31.5; 2], 64.0, 0.0));
        Look { identity: vec![coefficient; 60], patch }
    }

    const SKIN: [u8; 3] = [180, 130, 110];

    #[test]
    fn identity_and_colours_both_tell_people_apart() {
        let person = Person::new(look(0.2, SKIN), 1.0);
        let alike = person.evidence(&look(0.3, [170, 125, 105]));
        assert!(alike > 5.0, "{alike}");
        let brighter = person.evidence(&look(0.2, SKIN.map(|v| v / 4 * 5)));
        assert!(brighter > 8.0, "exposure does not count: {brighter}");
        let other_face = person.evidence(&look(1.4, SKIN));
        assert!(other_face < -3.0, "{other_face}");
        let other_colours = person.evidence(&look(0.2, [70, 130, 190]));
        assert!(other_colours < -3.0, "{other_colours}");
    }

    #[test]
    fn a_mean_of_many_views_is_trusted_more_than_the_last_one() {
        let mut person = Person::new(look(0.0, SKIN), 1.0 / 30.0);
        for _ in 0..60 {
            person.add(look(0.0, SKIN), 1.0 / 30.0);
        }
        person.add(look(1.0, SKIN), 1.0 / 30.0);
        assert!(person.evidence(&look(0.0, SKIN)) > person.evidence(&look(0.5, SKIN)));
    }

    #[test]
    fn the_best_one_is_chosen_if_nobody_else_is_as_likely() {
        assert_eq!(choose(&[]), None);
        assert_eq!(choose(&[(7, -0.1)]), None);
        assert_eq!(choose(&[(7, 0.1)]), Some(7));
        assert_eq!(choose(&[(7, 0.5), (8, 3.0)]), Some(8));
        assert_eq!(choose(&[(7, 3.0), (8, 3.0)]), None, "twins");
    }
}
