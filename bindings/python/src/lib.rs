//! The compiled half of the Python package `mmface`: trackers, faces and the face model. What needs
//! no speed (videos, tables) is Python, in `python/mmface`.

mod arguments;
mod error;
mod face;
mod frame;
mod model;
mod process;
mod shared;
mod tracker;

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
mod _mmface {
    #[pymodule_export]
    use crate::error::Error;
    #[pymodule_export]
    use crate::face::{CameraPose, Expression, Face, Gaze, Look, Raw};
    #[pymodule_export]
    use crate::model::{FaceModel, Mesh, face_model};
    #[pymodule_export]
    use crate::tracker::Tracker;

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
