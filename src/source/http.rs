//! Streams over HTTP: Motion JPEG as cameras send it (`multipart/x-mixed-replace`), HLS, and videos.

use gstreamer as gst;
use gstreamer::glib::{GStr, uri_unescape_string};
use gstreamer::prelude::*;
use url::Url;

use super::elements::{DECODEBIN, SINK_CHAIN, element, pipeline};
use super::failure::{Failure, Kind};
use super::mask::mask_url;
use crate::{Error, Result};

/// Longest wait for an answer of the server, in seconds.
const ANSWER: u32 = 5;

/// A URL without its credentials, which GStreamer gets separately.
#[derive(Debug, Clone)]
pub(super) struct Address {
    url: Url,
    user: String,
    password: String,
    /// The URL with masked password.
    label: String,
}

impl Address {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`Error::Source`] for anything but a URL of HTTP or HTTPS with a host.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let label = mask_url(text);
        let refuse = |why: &str| Error::Source(format!("{label} is no URL of a stream: {why}"));
        let mut url =
            Url::parse(text).map_err(|_| refuse("write http://user:password@host:port/path"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("it has to begin with http://, https:// or rtsp://"));
        }
        let plain = |text: &str| {
            uri_unescape_string(text, GStr::NONE).map_or(text.into(), |text| text.to_string())
        };
        let user = plain(url.username());
        let password = plain(url.password().unwrap_or_default());
        // Cannot fail, because a URL of HTTP has a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok(Self { url, user, password, label })
    }
}

/// A pipeline that receives the stream.
pub(super) fn receiver(address: &Address) -> Result<gst::Pipeline> {
    let pipeline = pipeline(&format!("souphttpsrc name=in ! {DECODEBIN} ! {SINK_CHAIN}"))?;
    let source = element(&pipeline, "in")?;
    source.set_property("location", address.url.as_str());
    if !address.user.is_empty() {
        source.set_property("user-id", &address.user);
        source.set_property("user-pw", &address.password);
    }
    source.set_property("timeout", ANSWER);
    // What connects again is this program, which tells the gap.
    source.set_property("retries", 0);
    // Motion JPEG has no times of its own.
    source.set_property("do-timestamp", true);
    Ok(pipeline)
}

/// A message for a failure.
pub(super) fn explain(address: &Address, failure: &Failure, worked: bool) -> String {
    let (name, text) = (&address.label, &failure.text);
    match failure.kind {
        Kind::Refused => format!(
            "{name} refuses this user name or password; write http://user:password@host/path"
        ),
        Kind::NotFound => {
            format!(
                "{name} is not there: its server answers, but knows no such page; check the path"
            )
        }
        Kind::Unreachable => {
            format!("{name} cannot be reached ({text}); check host, port and network")
        }
        Kind::NoDecoder | Kind::NoStream => format!("{name} cannot be decoded: {}", failure.cure()),
        Kind::NoVideo | Kind::UnknownFormat => {
            format!("{name} is no video, Motion JPEG or HLS; is it the address of a web page?")
        }
        Kind::Silent => format!("{name} sends nothing ({text}); check the camera"),
        _ if worked => format!("{name} was lost ({text})"),
        _ => format!("{name} sends no picture ({text})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_leave_the_url() {
        let address = Address::parse("http://me:p%40ss@cam:8080/video?x=1").expect("a good URL");
        assert_eq!(address.url.as_str(), "http://cam:8080/video?x=1");
        assert_eq!((address.user.as_str(), address.password.as_str()), ("me", "p@ss"));
        assert_eq!(address.label, "http://me:***@cam:8080/video?x=1");
        for text in ["ftp://me:secret@cam/live", "http://", "cam"] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains("is no URL of a stream"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
