//! Looks at the eyes of the faces in an image.

use std::sync::Arc;

use crate::backend::GazeNetwork;
use crate::error::Result;
use crate::face::FaceModel;
use crate::gaze::{self, GazeRule, Sight};
use crate::image::Image;
use crate::track::Tracked;

/// The gaze network, and what is needed to place its patches.
pub(crate) struct Eyes {
    pub network: Arc<GazeNetwork>,
    pub rule: GazeRule,
    pub model: Arc<FaceModel>,
}

impl Eyes {
    /// What is seen of a face's right eye and left; `None` if the face is out of sight.
    pub(super) fn look(&self, image: &Image, face: &Tracked) -> Result<Option<[Sight; 2]>> {
        let Tracked { params, landmarks, .. } = face;
        let maps = gaze::patches(&self.model, params, landmarks, &self.rule);
        let Some(maps) = maps.filter(|_| face.crop.is_some()) else { return Ok(None) };
        self.network.look(image, &maps).map(Some)
    }
}
