//! The element `mmfaceoverlay`.

mod canvas;
mod draw;
mod imp;
mod text;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;

glib::wrapper! {
    /// The element `mmfaceoverlay`.
    pub(crate) struct MmfaceOverlay(ObjectSubclass<imp::MmfaceOverlay>)
        @extends gstreamer_video::VideoFilter, gstreamer_base::BaseTransform, gst::Element,
            gst::Object;
}

/// Registers the element.
///
/// # Errors
/// If GStreamer refuses.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    let class = MmfaceOverlay::static_type();
    gst::Element::register(Some(plugin), "mmfaceoverlay", gst::Rank::NONE, class)
}
