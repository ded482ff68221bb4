//! Text in Noto Sans Mono.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::canvas::{Canvas, Colour};

/// A font size that suits the size of an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Font {
    size: RasterHeight,
    /// Integer factor by which glyphs are enlarged.
    zoom: usize,
}

impl Font {
    /// A size that is readable in an image of the given height in pixels.
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

    /// Height of a line in pixels.
    pub(super) fn height(self) -> usize {
        self.size.val() * self.zoom
    }

    /// Width of a text in pixels.
    pub(super) fn width(self, text: &str) -> usize {
        get_raster_width(FontWeight::Regular, self.size) * self.zoom * text.chars().count()
    }

    /// Draws a line of text with its top left corner at (x, y). Characters without a glyph leave a
    /// gap.
    pub(super) fn write(self, canvas: &mut Canvas, [x, y]: [f32; 2], text: &str, colour: Colour) {
        let (step, height, zoom) = (self.width("0") as f32, self.height() as f32, self.zoom as f32);
        for (index, c) in text.chars().enumerate() {
            let Some(glyph) = get_raster(c, FontWeight::Regular, self.size) else { continue };
            let left = x + index as f32 * step;
            canvas.cover([left, y, left + step - 1.0, y + height - 1.0], colour, |px, py| {
                // `as` turns what lies left of or above the glyph into 0.
                let (column, row) = (((px - left) / zoom) as usize, ((py - y) / zoom) as usize);
                glyph.pixel(column, row).map_or(0.0, |ink| f32::from(ink) / 255.0)
            });
        }
    }
}
