//! GStreamer elements: `mmface` fits a 3D morphable face model to the faces in video and attaches
//! the results to the buffers; `mmfaceoverlay` draws them.
//!
//! ```sh
//! gst-launch-1.0 v4l2src ! videoconvert ! mmface ! mmfaceoverlay ! videoconvert ! autovideosink
//! ```
//!
//! `docs/gstreamer.md` in the repository has pipelines, properties and what buffers and messages
//! carry; `gst-inspect-1.0 mmface` has the properties too.

mod meta;
mod mmface;
mod overlay;

use gstreamer::glib;

mod plugin {
    use gstreamer::{self as gst, glib};

    gst::plugin_define!(
        mmface,
        "3D morphable face model parameters of the faces in video",
        init,
        env!("CARGO_PKG_VERSION"),
        // GStreamer knows no dual licence; this is one of the two at the user's choice.
        "MIT/X11",
        env!("CARGO_PKG_NAME"),
        "mmface-live",
        // No page of its own yet.
        "mmface-live"
    );

    fn init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
        super::register(plugin)
    }
}

/// Registers the elements of this plugin in a program that links it, instead of loading it.
///
/// # Errors
/// If GStreamer refuses.
pub fn plugin_register_static() -> Result<(), glib::BoolError> {
    plugin::plugin_register_static()
}

fn register(plugin: &gstreamer::Plugin) -> Result<(), glib::BoolError> {
    // Networks and libraries are searched beside this file. A program that links the plugin has
    // none; there they are searched beside the program.
    if let Some(file) = plugin.filename() {
        ::mmface::locate::set_module(&file);
    }
    meta::register();
    mmface::register(plugin)?;
    overlay::register(plugin)
}
