//! What several tests of this crate need.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use crate::face::FaceModel;
use crate::models::Models;

/// The face model that ships.
pub(crate) static MODEL: LazyLock<Arc<FaceModel>> = LazyLock::new(|| {
    let engines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../engines");
    let models = Models::open(&engines).expect("the models");
    Arc::new(models.face_model().expect("a face model").0)
});
