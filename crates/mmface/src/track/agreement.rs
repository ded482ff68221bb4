//! How far the networks agree with themselves: the fitted mesh and the points that they see directly
//! are two answers to one question. On faces the two lie closer together than on anything else. Of
//! 1,100 crops of faces, seen from the front to the side, 99 of 100 are below 3 % of the face's size
//! (median 1.2). Of crops that show a face upside down or on its side 95 of 100 are above 3.7 %
//! (median 8), of crops without a face above 10 %.

use std::f32::consts::PI;

use super::Tracks;
use crate::backend::Output;
use crate::bounds::around;
use crate::crop::CropMap;
use crate::detect::Detection;
use crate::face::{LandmarkShapes, Params};

/// Distance in % at which the confidence is halved.
const HALF: f32 = 4.0;
/// Percent by which the distance must grow for its odds to fall to 1/e.
const WIDTH: f32 = 0.5;
/// Turns, in radians, in which a crop is looked at again if it may show a face that is turned in the
/// image. The networks see faces that lean by 30 degrees as well as upright ones.
const TURNS: [f32; 5] = [PI / 3.0, -PI / 3.0, 2.0 * PI / 3.0, -2.0 * PI / 3.0, PI];
/// Least presence of something that may be a turned face. On what is no face presence is near 0.
const PERHAPS: f32 = 0.1;

impl Tracks {
    /// The probability that a crop shows a face, fitted well: presence, less the farther mesh and
    /// points lie apart.
    pub(super) fn confidence(
        &self,
        params: &Params,
        output: &Output,
        shapes: &mut LandmarkShapes,
    ) -> f32 {
        // Keeps it within 0…1, whatever the network says.
        let presence = output.presence.clamp(0.0, 1.0);
        let mesh = self.model.landmarks_cached(params, shapes);
        if output.points.len() != mesh.len() {
            return presence;
        }
        let [_, _, width, height] = around(&mesh);
        let apart = mesh.iter().zip(&output.points).map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1]));
        let distance = 100.0 * apart.sum::<f32>() / mesh.len() as f32 / (width * height).sqrt();
        presence / (1.0 + ((distance - HALF) / WIDTH).exp())
    }

    fn confidence_of(&self, output: &Output) -> f32 {
        let params = Params::from_outputs(output.pose, &output.identity, &output.expression);
        params.map_or(0.0, |p| self.confidence(&p, output, &mut LandmarkShapes::default()))
    }

    /// Crops in which candidates that may be turned faces are looked at again, each with the index
    /// of its candidate.
    pub(crate) fn turned(
        &self,
        candidates: &[(CropMap, Detection)],
        outputs: &[Output],
    ) -> Vec<(usize, CropMap)> {
        let doubtful = candidates.iter().zip(outputs).enumerate().filter(|(_, (_, output))| {
            let may_be = self.settings.immediate || output.presence >= PERHAPS;
            may_be && self.confidence_of(output) < self.settings.presence
        });
        doubtful
            .flat_map(|(at, ((map, _), _))| {
                TURNS.iter().map(move |turn| (at, map.nudged([0.0; 2], 1.0, *turn)))
            })
            .filter(|(_, map)| map.is_sane())
            .collect()
    }

    /// Takes for each candidate the crop in which it is a face most likely.
    pub(crate) fn take_best(
        &self,
        candidates: &mut [(CropMap, Detection)],
        outputs: &mut [Output],
        turned: &[(usize, CropMap)],
        seen: Vec<Output>,
    ) {
        for ((at, map), output) in turned.iter().zip(seen) {
            if self.confidence_of(&output) > self.confidence_of(&outputs[*at]) {
                candidates[*at].0 = *map;
                outputs[*at] = output;
            }
        }
    }
}
