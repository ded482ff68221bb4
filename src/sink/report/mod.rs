//! An HTML page about a run that opens offline in any browser: curves, lost frames, ids, the face
//! in 3D.
//!
//! [`Digest`] condenses records as they come; [`Page`] writes the result, together with the
//! plotting library, into one HTML file. The data in it is JSON with base64 for long lists of
//! numbers; `report.js` reads it.

mod digest;
mod points;

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mmface::face::FaceModel;
use mmface::limited::read_text_limited;
use mmface::locate;
use serde_json::{Value, json};

pub use self::digest::{Digest, Track};
use self::points::Points;
use super::files::{TruncateOnWrite, cannot_write, remove_partial};
use super::{Content, Context, Event, Plan, Sink, WhenSlow};
use crate::packed::{mesh, shape, steps};
use crate::{Error, Result};

const TEMPLATE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("report.js");
/// Most ids with curves and a mesh: those with the most frames.
const MAX_DRAWN: usize = 64;
/// Most bytes of the plotting library.
const LARGEST_LIBRARY: u64 = 64 << 20;
/// Most ids in the table.
const MAX_LISTED: usize = 1000;

/// The writer of an HTML page.
pub struct Page {
    out: BufWriter<TruncateOnWrite>,
    place: PathBuf,
    library: String,
}

/// Path of the plotting library (plotly.js), which the set-up downloads.
///
/// # Errors
/// [`Error::Missing`] if it is not installed.
pub fn library() -> Result<PathBuf> {
    let names = ["share/mmface-live/report/plotly.min.js", "vendor/report/plotly.min.js"];
    let cure = "run `make setup`, or set MMFACE_PLOTLY to a plotly.min.js";
    locate::find(None, "MMFACE_PLOTLY", &names)
        .map_err(|why| Error::Missing(format!("{why}; {cure}")))
}

impl Page {
    /// Opens the file, which is truncated when the page is written.
    ///
    /// # Errors
    /// [`Error::Missing`] if the plotting library is missing, [`Error::Sink`] if the file cannot be
    /// created.
    pub fn create(place: &Path) -> Result<Self> {
        let path = library()?;
        let unreadable = |e| Error::Missing(format!("{e}; run `make setup`"));
        let library = read_text_limited(&path, LARGEST_LIBRARY).map_err(unreadable)?;
        let file = TruncateOnWrite::open(place).map_err(|e| {
            let place = place.display();
            Error::Sink(format!("cannot create {place}: {e}; name another file for the report"))
        })?;
        Ok(Self { out: BufWriter::new(file), place: place.to_path_buf(), library })
    }

    /// Writes the page. Without a face model it does not show the face.
    ///
    /// # Errors
    /// [`Error::Sink`] if writing fails.
    pub fn write(mut self, digest: &Digest, model: Option<&FaceModel>) -> Result<()> {
        // Neither text may close the HTML element that contains it. In JSON, \u003c is <.
        let library = self.library.replace("</script", "<\\/script");
        let data = data(digest, model).to_string().replace('<', "\\u003c");
        let written = TEMPLATE.split_inclusive("}}").try_for_each(|piece| {
            let (text, name) = piece.split_once("{{").unwrap_or((piece, ""));
            self.out.write_all(text.as_bytes())?;
            self.out.write_all(match name {
                "library}}" => library.as_bytes(),
                "script}}" => SCRIPT.as_bytes(),
                "data}}" => data.as_bytes(),
                other => other.as_bytes(),
            })
        });
        let place = self.place.display().to_string();
        written.and_then(|()| self.out.flush()).map_err(|e| {
            remove_partial(&self.place); // half a page shows nothing
            cannot_write("the report", &place, &e)
        })
    }
}

/// The sink for a report.
#[derive(Debug)]
pub struct ReportPage {
    /// The HTML file.
    pub path: PathBuf,
}

impl Plan for ReportPage {
    fn name(&self) -> &'static str {
        "report"
    }

    fn when_slow(&self) -> WhenSlow {
        WhenSlow::Wait
    }

    fn file(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn open(self: Box<Self>, context: &Arc<Context>) -> Result<Box<dyn Sink>> {
        let page = Page::create(&self.path)?;
        Ok(Box::new(Report { page, digest: Digest::default(), model: context.model.clone() }))
    }
}

/// Condenses events and writes the page at the end.
struct Report {
    page: Page,
    digest: Digest,
    model: Arc<FaceModel>,
}

impl Sink for Report {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        let record = event.record(Content::default());
        self.digest.add(&record).map_err(|why| Error::Bug(format!("a record {why}")))?;
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.page.write(&self.digest, Some(&self.model))
    }
}

/// The data for `report.js`.
fn data(digest: &Digest, model: Option<&FaceModel>) -> Value {
    let mut by_frames: Vec<_> = digest.tracks.iter().collect();
    by_frames.sort_by_key(|(id, track)| (std::cmp::Reverse(track.frames), **id));
    let drawn = by_frames.iter().filter(|(_, track)| track.points.len() > 0).take(MAX_DRAWN);
    let names = digest.header.as_ref().map(|h| h.face_model.expressions.as_slice());
    let main = digest.main.iter().filter_map(|&k| names?.get(k).map(String::as_str));
    let curve_names: Vec<_> = ["pitch", "yaw", "roll"].into_iter().chain(main).collect();
    json!({
        "header": digest.header,
        "stream": digest.stream,
        "end": digest.end,
        "frames": digest.frames,
        "lost": digest.lost,
        "gaps": digest.gaps,
        "gap_count": digest.gap_count,
        "ids": digest.tracks.len(),
        "listed": by_frames.iter().take(MAX_LISTED)
            .map(|(id, t)| json!([id, t.first, t.last, t.frames])).collect::<Vec<_>>(),
        "timing": {
            "names": [
                "capture to record", "detect", "infer", "lost: busy", "lost: damaged", "lost: network",
            ],
            "stride": digest.timing_stride,
            "points": curves(&digest.timing),
        },
        "names": curve_names,
        "stride": digest.stride,
        "tracks": drawn.map(|(id, track)| person(**id, track, model)).collect::<Vec<_>>(),
        "mesh": model.map(|model| mesh(model, 0)),
    })
}

/// Times as f32, and rows of the least and greatest values as f32.
fn curves(points: &Points) -> Value {
    json!({ "time": floats(&points.time), "low": floats(&points.low), "high": floats(&points.high) })
}

/// The data of one face: curves, angles [points × 3] as f32, expressions [points × expressions] as
/// i16, and the neutral mesh as i16. Integers come with the value of one `step`.
fn person(id: u64, track: &Track, model: Option<&FaceModel>) -> Value {
    let points = &track.points;
    let rows = || points.sample.chunks_exact(points.sample.len() / points.len().max(1));
    let angles: Vec<f32> = rows().flat_map(|row| row.iter().take(3)).copied().collect();
    let expression: Vec<f32> = rows().flat_map(|row| &row[3..]).copied().collect();
    let neutral = model.map(|model| steps(&shape(model, &track.identity, &[])));
    json!({
        "id": id, "points": curves(points), "angles": floats(&angles),
        "expression": steps(&expression), "neutral": neutral,
    })
}

fn floats(values: &[f32]) -> String {
    STANDARD.encode(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}
