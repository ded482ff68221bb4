//! The element `mmface`.

mod imp;
mod runtimes;
mod settings;
mod stream;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;

glib::wrapper! {
    /// The element `mmface`.
    pub(crate) struct Mmface(ObjectSubclass<imp::Mmface>)
        @extends gstreamer_base::BaseTransform, gst::Element, gst::Object;
}

/// Registers the element.
///
/// # Errors
/// If GStreamer refuses.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "mmface", gst::Rank::NONE, Mmface::static_type())
}
