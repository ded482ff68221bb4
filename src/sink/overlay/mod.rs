//! Draws what was found on a copy of the very frame that it was found on, and writes it to a video
//! file or shows it in a window.
//!
//! [`Overlay`] ties two halves together that don't know each other: drawing (`convert`,
//! `canvas`, `raster`, `skin`, `text`, `draw`: plain memory in, plain memory out) and `writer` (GStreamer).

mod canvas;
mod convert;
mod draw;
mod raster;
mod skin;
mod style;
mod text;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use self::canvas::Canvas;
use self::draw::Painter;
use self::skin::Skin;
pub use self::style::Style;
use self::writer::Writer;
pub use self::writer::health;
use crate::Result;
use crate::face::{FaceModel, Params};
use crate::frame::Frame;
use crate::sink::{Shot, Sink};
use crate::volume::Volume;

/// Where the drawn frames go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A window on the screen.
    Window,
    /// A file; its extension says which kind: `.mp4`, `.mkv`, `.webm`, or `.png` and `.jpg` for
    /// one picture.
    File(PathBuf),
}

/// One face as it is drawn. Lengths and places in frame pixels, (0, 0) being the centre of the top
/// left pixel.
#[derive(Debug, Clone, Copy)]
pub struct Face<'a> {
    /// Who it is; faces of one id keep their colour.
    pub id: u64,
    /// 0…1.
    pub confidence: f32,
    /// x, y, width, height.
    pub box_: [f32; 4],
    /// The mesh: x, y and z (toward the camera), one for each vertex of the face model. Empty for
    /// no mesh.
    pub vertices: &'a [[f32; 3]],
    /// The landmarks; empty for none.
    pub landmarks: &'a [[f32; 2]],
    /// Its rotation is drawn as axes.
    pub pose: &'a Params,
    /// Its volume, which [`Style::Volume`] shows.
    pub volume: Option<&'a Volume>,
}

/// Draws frames and hands them on.
pub struct Overlay {
    painter: Painter,
    writer: Writer,
}

impl Overlay {
    /// Opens the target. `fps` is the frame rate that the source announces, 0 where it does not;
    /// frames are shown at their own times whatever it says.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) for an extension that is not known,
    /// [`Error::Sink`](crate::Error::Sink) if the file cannot be created, an encoder is missing or
    /// there is no screen.
    pub fn open(target: &Target, style: Style, model: &FaceModel, fps: f64) -> Result<Self> {
        Ok(Self {
            painter: Painter::new(Skin::of(model), style),
            writer: Writer::open(target, fps)?,
        })
    }

    /// Draws `faces` and a line of text on a copy of `frame` and hands it on; waits while the
    /// encoder is behind. The first frame sets the size of the video; later ones of another size
    /// are scaled into it.
    ///
    /// # Errors
    /// [`Error::Sink`](crate::Error::Sink) if the target cannot be written any more,
    /// [`Error::ClosedPipe`](crate::Error::ClosedPipe) once the window has been closed.
    pub fn draw(&mut self, frame: &Frame, faces: &[Face], status: &str) -> Result<()> {
        let mut canvas = Canvas::of(&frame.image);
        self.painter.paint(&mut canvas, faces, status);
        self.writer.write(canvas, frame.pts, frame.connection)
    }

    /// Writes the end of the file; every frame handed in is in it then. Dropping an overlay
    /// without this leaves a playable file that may lack the last second.
    ///
    /// # Errors
    /// [`Error::Sink`](crate::Error::Sink) if the rest cannot be written.
    pub fn finish(self) -> Result<()> {
        self.writer.finish()
    }
}

impl Sink for Overlay {
    fn take(&mut self, shot: &Shot) -> Result<()> {
        let faces: Vec<_> = shot
            .faces
            .iter()
            .map(|face| Face {
                id: face.id,
                confidence: face.confidence,
                box_: face.bounds,
                vertices: &face.vertices,
                landmarks: &face.landmarks,
                pose: &face.params,
                volume: face.volume.as_deref(),
            })
            .collect();
        self.draw(&shot.frame, &faces, &shot.status)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Overlay::finish(*self)
    }
}
