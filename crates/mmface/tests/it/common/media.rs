//! Frames of clips and pictures, decoded by the command `gst-launch-1.0`: linking to GStreamer here
//! would make every example of this crate need its development files.

use std::io::{BufReader, ErrorKind, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use mmface::Image;
use mmface::image::{Colour, Layout, Matrix, Plane};

/// Length of a packet's header in the GStreamer Data Protocol (`gdppay`): version and flags (4
/// bytes), kind (2), length of what follows (4), time in nanoseconds (8), …; big-endian.
const HEADER: usize = 62;
const KIND_BUFFER: u16 = 1;
const KIND_CAPS: u16 = 2;

/// A clip that is decoded frame by frame, as I420 in BT.709.
pub struct Clip {
    decoder: Child,
    stream: BufReader<ChildStdout>,
    width: u32,
    height: u32,
}

impl Clip {
    /// Opens one of the clips that the set-up unpacked.
    pub fn open(name: &str) -> Self {
        let location = format!("location={}", super::media(name).display());
        let pipeline = "! decodebin ! videoconvert ! video/x-raw,format=I420,colorimetry=bt709 \
                        ! gdppay ! fdsink fd=1";
        let mut decoder = Command::new("gst-launch-1.0")
            .args(["-q", "filesrc", &location])
            .args(pipeline.split_whitespace())
            .stdout(Stdio::piped())
            .spawn()
            .expect("gst-launch-1.0 is there: `make setup` installs it");
        let stream = BufReader::new(decoder.stdout.take().unwrap());
        Self { decoder, stream, width: 0, height: 0 }
    }

    /// Kind, time in seconds and content of the next packet.
    fn packet(&mut self) -> Option<(u16, f64, Vec<u8>)> {
        let mut header = [0; HEADER];
        match self.stream.read_exact(&mut header) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
                assert!(self.decoder.wait().unwrap().success(), "the clip cannot be decoded");
                return None;
            }
            read => read.unwrap(),
        }
        let kind = u16::from_be_bytes(*header[4..].first_chunk().unwrap());
        let length = u32::from_be_bytes(*header[6..].first_chunk().unwrap());
        let nanoseconds = u64::from_be_bytes(*header[10..].first_chunk().unwrap());
        let mut content = vec![0; length as usize];
        self.stream.read_exact(&mut content).unwrap();
        Some((kind, nanoseconds as f64 / 1e9, content))
    }
}

impl Iterator for Clip {
    /// Seconds, and the frame.
    type Item = (f64, Image<'static>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (kind, pts, content) = self.packet()?;
            match kind {
                KIND_CAPS => {
                    let caps = String::from_utf8(content).unwrap();
                    let side = |name: &str| {
                        let (_, rest) = caps.split_once(&format!("{name}=(int)")).unwrap();
                        rest.split(',').next().unwrap().parse().unwrap()
                    };
                    (self.width, self.height) = (side("width"), side("height"));
                }
                KIND_BUFFER => return Some((pts, frame(self.width, self.height, &content))),
                _ => {}
            }
        }
    }
}

/// A frame as GStreamer lays it out: rows begin at multiples of four bytes.
fn frame(width: u32, height: u32, content: &[u8]) -> Image<'static> {
    let mut rest = content;
    let planes = Layout::I420.planes(width, height).into_iter().enumerate().map(|(index, size)| {
        let stride = size.row.next_multiple_of(4);
        let rows = if index == 0 { size.rows.next_multiple_of(2) } else { size.rows };
        let (plane, others) = rest.split_at(stride * rows);
        rest = others;
        Plane::new(plane.to_vec(), stride)
    });
    let image = Image::new(Layout::I420, width, height, planes).unwrap();
    image.with_colour(Colour { matrix: Matrix::Bt709, full_range: false })
}

impl Drop for Clip {
    fn drop(&mut self) {
        // Fails if the decoder has already ended.
        let _ = self.decoder.kill();
        self.decoder.wait().unwrap();
    }
}

/// A picture that the set-up unpacked, or the first frame of a clip.
pub fn picture(name: &str) -> Image<'static> {
    Clip::open(name).next().expect("a picture has a frame").1
}
