//! Text, in Noto Sans Mono.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::canvas::{Canvas, Colour, blend};

/// A size of text that suits a picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Font {
    size: RasterHeight,
    /// Each pixel of the font is drawn this many pixels wide and high.
    zoom: usize,
}

impl Font {
    /// Large enough to be read in a picture so many pixels high.
    pub(super) fn for_height(height: usize) -> Self {
        let (size, zoom) = match height {
            0..=540 => (RasterHeight::Size16, 1),
            541..=800 => (RasterHeight::Size20, 1),
            801..=1000 => (RasterHeight::Size24, 1),
            1001..=1440 => (RasterHeight::Size32, 1),
            _ => (RasterHeight::Size24, height / 1000),
        };
        Self { size, zoom: zoom.max(1) }
    }

    /// Height of a line.
    pub(super) fn height(self) -> usize {
        self.size.val() * self.zoom
    }

    /// Width of a text of so many characters.
    pub(super) fn width(self, text: &str) -> usize {
        get_raster_width(FontWeight::Regular, self.size) * self.zoom * text.chars().count()
    }

    /// Writes one line, (x, y) being the top left corner; characters without a picture leave a gap.
    pub(super) fn write(self, canvas: &mut Canvas, x: usize, y: usize, text: &str, colour: Colour) {
        let zoom = self.zoom;
        let step = self.width("0");
        for (left, c) in (x..).step_by(step).zip(text.chars()) {
            let Some(glyph) = get_raster(c, FontWeight::Regular, self.size) else { continue };
            for (top, row) in (y..).step_by(zoom).zip(glyph.rows()) {
                for line in top..top + zoom {
                    let pixels = canvas.row_mut(line).iter_mut().skip(left);
                    let inks = row.iter().flat_map(|ink| std::iter::repeat_n(ink, zoom));
                    for (pixel, ink) in pixels.zip(inks) {
                        blend(pixel, colour, f32::from(*ink) / 255.0);
                    }
                }
            }
        }
    }
}
