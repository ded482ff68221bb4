//! Draws the results on a copy of the frame that they belong to, and writes it to a video file or
//! shows it in a window.
//!
//! `Overlay` connects two halves that do not depend on each other: drawing in memory (`convert`,
//! `canvas`, `raster`, `skin`, `text`, `draw`), and the GStreamer `writer`.

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

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmface::Face;
use mmface::volume::Volume;

use self::canvas::Canvas;
use self::draw::Painter;
use self::skin::Skin;
pub use self::style::Style;
pub use self::writer::health;
use self::writer::{Taken, Writer};
use super::{Context, Event, Needs, Plan, Sink, VolumeSource, WhenSlow};
use crate::Result;

/// Where the drawn frames go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A window on the screen.
    Window,
    /// A file. Its extension determines the format: `.mp4`, `.mkv` or `.webm`; `.png` or `.jpg` for
    /// a single picture.
    File(PathBuf),
}

/// The sink for an overlay.
#[derive(Debug)]
pub struct OverlayVideo {
    /// Where the frames go.
    pub target: Target,
    /// How a face is drawn.
    pub style: Style,
}

impl Plan for OverlayVideo {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn needs(&self) -> Needs {
        Needs { volumes: (self.style == Style::Volume).then_some(VolumeSource::Network) }
    }

    fn when_slow(&self) -> WhenSlow {
        WhenSlow::DropOldest
    }

    fn file(&self) -> Option<&Path> {
        match &self.target {
            Target::Window => None,
            Target::File(path) => Some(path),
        }
    }

    fn open(self: Box<Self>, context: &Arc<Context>) -> Result<Box<dyn Sink>> {
        let painter = Painter::new(Skin::of(&context.model), self.style);
        let warning = if context.trained { "" } else { UNTRAINED };
        Ok(Box::new(Overlay { painter, writer: Writer::open(&self.target)?, warning }))
    }
}

/// Shown on every frame of a run with untrained weights.
const UNTRAINED: &str = "NO TRAINED WEIGHTS: THE MESH MEANS NOTHING";

/// A face to draw.
pub(crate) struct Drawn<'a> {
    pub(crate) face: &'a Face,
    /// The mesh's vertices; empty if there is none.
    pub(crate) vertices: &'a [[f32; 3]],
    /// The face's volume, for [`Style::Volume`].
    pub(crate) volume: Option<Arc<Volume>>,
}

/// Draws frames and passes them to the writer.
struct Overlay {
    painter: Painter,
    writer: Writer,
    warning: &'static str,
}

impl Sink for Overlay {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        let Event::Frame(event) = event else { return Ok(ControlFlow::Continue(())) };
        let drawn = |(place, face)| {
            let (vertices, volume) = (event.mesh(place), event.volume(place));
            Drawn { face, vertices, volume }
        };
        let faces: Vec<_> = event.faces().map(drawn).collect();
        let status = [event.status.as_str(), self.warning].join("   ");
        let mut canvas = Canvas::of(&event.frame.image());
        self.painter.paint(&mut canvas, &faces, status.trim());
        let (pts, connection) = (event.frame.pts, event.frame.connection);
        Ok(match self.writer.write(canvas, pts, connection)? {
            Taken::Written => ControlFlow::Continue(()),
            Taken::WindowClosed => ControlFlow::Break("the window was closed"),
        })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.writer.finish()
    }
}
