//! Volumes as NumPy files, one per face and frame.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Context, Event, Needs, Plan, Sink, VolumeSource, WhenSlow, files};
use crate::Result;

/// The sink for volumes: `DIR/000123-face7.npy`, u8, r×r×r, 255 times the probability that a voxel
/// is filled.
#[derive(Debug)]
pub struct VolumeFiles {
    /// The folder.
    pub folder: PathBuf,
}

impl Plan for VolumeFiles {
    fn name(&self) -> &'static str {
        "volumes"
    }

    fn needs(&self) -> Needs {
        // The filled mesh is closer to the true head than the volume head's output.
        Needs { volumes: Some(VolumeSource::Model) }
    }

    fn when_slow(&self) -> WhenSlow {
        WhenSlow::DropOldest
    }

    fn open(self: Box<Self>, _: &Arc<Context>) -> Result<Box<dyn Sink>> {
        let lock = files::folder(&self.folder, "--volume-out")?;
        Ok(Box::new(Volumes { folder: self.folder, _lock: lock }))
    }
}

struct Volumes {
    folder: PathBuf,
    _lock: files::Folder,
}

impl Sink for Volumes {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        if let Event::Frame(frame) = event {
            for (place, face) in frame.faces() {
                if let Some(volume) = frame.volume(place) {
                    let path = self.folder.join(frame.file_stem(face) + ".npy");
                    files::write("a volume", &path, &volume.to_npy())?;
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
