//! RTSP streams.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::glib::{GStr, uri_unescape_string};
use gstreamer::prelude::*;
use url::Url;

use super::Transport;
use super::elements::{DECODEBIN, RTSP_SOURCE, SINK_CHAIN, element, pipeline};
use super::failure::{Failure, Kind};
use super::mask::mask_url;
use crate::{Error, Result};

/// Longest wait for a response of the server.
const ANSWER: Duration = Duration::from_secs(5);

/// The URL of a stream without its credentials. GStreamer gets URL and password separately, so that
/// its messages and logs contain no password.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// The URL without user and password.
    url: Url,
    user: String,
    password: String,
    /// The URL with masked password.
    label: String,
    /// Whether the server has offered video at the last attempt.
    has_video: Arc<AtomicBool>,
}

impl Address {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`Error::Source`] for anything but an RTSP URL with a host.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let label = mask_url(text);
        let refuse = |why: &str| Error::Source(format!("{label} is no RTSP URL: {why}"));
        let mut url = Url::parse(text).map_err(|_| {
            refuse("write rtsp://user:password@host:port/path, special characters in the password as %XX")
        })?;
        if !matches!(url.scheme(), "rtsp" | "rtsps" | "rtspt" | "rtspu") {
            return Err(refuse("it has to begin with rtsp:// (for http:// there is --url)"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(refuse("it names no host"));
        }
        let plain = |text: &str| {
            uri_unescape_string(text, GStr::NONE).map_or(text.into(), |t| t.to_string())
        };
        let user = plain(url.username());
        let password = plain(url.password().unwrap_or_default());
        // Cannot fail, because the URL has a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok(Self { url, user, password, label, has_video: Arc::default() })
    }
}

/// A pipeline that receives the stream.
pub(super) fn receiver(
    address: &Address,
    transport: Transport,
    latency_ms: u32,
) -> Result<gst::Pipeline> {
    let pipeline = pipeline(&format!("rtspsrc name={RTSP_SOURCE} ! {DECODEBIN} ! {SINK_CHAIN}"))?;
    let source = element(&pipeline, RTSP_SOURCE)?;
    let answer = ANSWER.as_micros() as u64;
    source.set_property("location", address.url.as_str());
    source.set_property("user-id", &address.user);
    source.set_property("user-pw", &address.password);
    source.set_property("latency", latency_ms);
    source.set_property("tcp-timeout", answer);
    source.set_property("timeout", answer);
    let udp = transport == Transport::Udp;
    source.set_property_from_str("protocols", if udp { "udp+udp-mcast" } else { "tcp" });
    // The first packet counts, even if the second is lost.
    source.set_property("probation", 0u32);
    // Only the first video stream is requested from the server.
    let chosen = OnceLock::new();
    let has_video = address.has_video.clone();
    has_video.store(false, Ordering::Relaxed);
    source.connect("select-stream", false, move |arguments| {
        let number = arguments.get(1)?.get::<u32>().ok()?;
        let caps = arguments.get(2)?.get::<gst::Caps>().ok()?;
        let is_video = caps.structure(0).and_then(|s| s.get::<&str>("media").ok()) == Some("video");
        has_video.fetch_or(is_video, Ordering::Relaxed);
        Some((is_video && *chosen.get_or_init(|| number) == number).to_value())
    });
    Ok(pipeline)
}

/// Says more of a failure than GStreamer knows: what it means that no stream can be received.
pub(super) fn specify(address: &Address, failure: Failure) -> Failure {
    let kind = match failure.kind {
        Kind::NoStream if address.has_video.load(Ordering::Relaxed) => Kind::NoTransport,
        Kind::NoStream => Kind::NoVideo,
        kind => kind,
    };
    Failure { kind, ..failure }
}

/// A message for a failure. `worked`: whether frames have ever come.
pub(super) fn explain(
    address: &Address,
    failure: &Failure,
    transport: Transport,
    worked: bool,
) -> String {
    let (name, text) = (&address.label, &failure.text);
    match failure.kind {
        Kind::Refused if address.user.is_empty() => {
            format!("{name} wants a user name and a password; write rtsp://user:password@host/path")
        }
        Kind::Refused => format!(
            "{name} refuses this user name or password; check them, and write special characters as %XX"
        ),
        Kind::NotFound => {
            format!(
                "{name} is not there: its server answers, but knows no such stream; check the path"
            )
        }
        Kind::Unreachable => {
            format!("{name} cannot be reached ({text}); check host, port and network")
        }
        Kind::NoDecoder => format!("{name} cannot be decoded: {}", failure.cure()),
        Kind::NoVideo => format!("{name} has no video"),
        Kind::NoTransport => match transport {
            Transport::Tcp => {
                format!("{name} refuses to send over TCP; try --rtsp-transport udp, or auto")
            }
            Transport::Udp => {
                format!("{name} refuses to send over UDP; try --rtsp-transport tcp, or auto")
            }
            Transport::Auto => format!("{name} refuses to send over TCP, and over UDP"),
        },
        Kind::Silent => {
            format!(
                "{name} sends nothing ({text}); check the camera, or try another --rtsp-transport"
            )
        }
        _ if worked => format!("{name} was lost ({text})"),
        _ => format!("{name} sends no picture ({text})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_leave_the_url() {
        let address = Address::parse("rtsp://me:p%40ss%2Fw%C3%B6rd@cam:8554/live?x=1");
        let address = address.expect("a good URL");
        assert_eq!(address.url.as_str(), "rtsp://cam:8554/live?x=1");
        assert_eq!((address.user.as_str(), address.password.as_str()), ("me", "p@ss/wörd"));
        assert_eq!(address.label, "rtsp://me:***@cam:8554/live?x=1");
    }

    #[test]
    fn wrong_urls_are_refused_without_showing_the_password() {
        for text in ["rtsp://me:sec#ret@cam/live", "http://me:secret@cam/live", "rtsp://", "cam"] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains("is no RTSP URL"), "{error}");
            assert!(!error.contains("ret@"), "{error}");
        }
    }
}
