//! Where results go.

pub mod json;
pub mod meshes;
pub mod overlay;
pub mod report;
pub mod volumes;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use crate::face::Params;
use crate::frame::Frame;
use crate::volume::Volume;
use crate::{Error, Result};

/// One face as sinks get it; places and lengths in frame pixels.
#[derive(Debug)]
pub struct Face {
    /// Who it is.
    pub id: u64,
    /// 0…1.
    pub confidence: f32,
    /// x, y, width, height of the box around the landmarks.
    pub bounds: [f32; 4],
    /// Its parameters, smoothed.
    pub params: Params,
    /// 68 points.
    pub landmarks: Vec<[f32; 2]>,
    /// The mesh: x, y, z toward the camera. Empty where nobody asked for it.
    pub vertices: Vec<[f32; 3]>,
    /// Its volume, where somebody asked for it and the face was in sight.
    pub volume: Option<Arc<Volume>>,
}

/// A frame with its faces.
#[derive(Debug)]
pub struct Shot {
    /// The frame.
    pub frame: Frame,
    /// By id.
    pub faces: Vec<Face>,
    /// A line of text about the run.
    pub status: String,
}

impl Shot {
    /// What the files of one face of this frame are called, without extension: `000123-face7`, after
    /// the frame's number; of a picture `portrait-face7`, after its file.
    #[must_use]
    pub fn name(&self, face: &Face) -> String {
        let file = self.frame.file.as_deref().map(Path::new).and_then(Path::file_stem);
        let frame = file.map_or_else(
            || format!("{:06}", self.frame.number),
            |stem| stem.to_string_lossy().into_owned(),
        );
        format!("{frame}-face{}", face.id)
    }
}

/// Takes every frame of a run, beside the records.
pub trait Sink: Send {
    /// Takes one frame.
    ///
    /// # Errors
    /// [`Error::Sink`] if it cannot be written, [`Error::ClosedPipe`] if nobody looks any more.
    fn take(&mut self, shot: &Shot) -> Result<()>;

    /// Writes what is left to write.
    ///
    /// # Errors
    /// [`Error::Sink`] if it cannot be written.
    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// A file that is begun anew with the first byte that is written: until then what was in it stays, so
/// that a run which is refused after it was opened costs nothing.
struct Anew {
    file: File,
    begun: bool,
}

impl Anew {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file, begun: false })
    }
}

impl Write for Anew {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.begun {
            // A pipe or a device has no length.
            if self.file.metadata()?.is_file() {
                self.file.set_len(0)?;
            }
            self.begun = true;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Makes a folder, or takes one that is there.
fn folder(path: &Path, flag: &str) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|e| {
        let path = path.display();
        Error::Sink(format!("cannot make the folder {path}: {e}; name another with {flag}"))
    })
}

/// Writes a whole file. What cannot be written whole is taken away again.
fn write(what: &str, path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e: io::Error| json::failed(what, &path.display().to_string(), &e);
    File::create(path).map_err(failed)?.write_all(bytes).map_err(|e| {
        take_away(path);
        failed(e)
    })
}

/// Removes a file that is not whole; a pipe or a device stays.
fn take_away(path: &Path) {
    if path.is_file() {
        let _ = std::fs::remove_file(path);
    }
}

/// What has become of an output that nothing was written to.
fn untouched(path: &Path) -> &'static str {
    let had_content = path.metadata().is_ok_and(|file| file.len() > 0);
    if had_content { "is left as it was" } else { "is empty" }
}
