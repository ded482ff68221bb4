//! Volumes as NumPy's files, one for each face and frame.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Shot, Sink};
use crate::Result;

/// What volumes are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The volume head.
    Network,
    /// The parameters: the solid that the fitted mesh bounds.
    Model,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Network => "network",
            Self::Model => "model",
        })
    }
}

/// Writes `DIR/000123-face7.npy`: u8, r×r×r, 255 times the probability that a voxel is filled.
pub struct Volumes {
    folder: PathBuf,
}

impl Volumes {
    /// Makes the folder.
    ///
    /// # Errors
    /// [`Error::Sink`](crate::Error::Sink) if it cannot be made.
    pub fn open(folder: &Path) -> Result<Self> {
        super::folder(folder, "--volume-out")?;
        Ok(Self { folder: folder.into() })
    }
}

impl Sink for Volumes {
    fn take(&mut self, shot: &Shot) -> Result<()> {
        for face in &shot.faces {
            if let Some(volume) = &face.volume {
                let path = self.folder.join(shot.name(face) + ".npy");
                super::write("a volume", &path, &volume.to_npy())?;
            }
        }
        Ok(())
    }
}
