//! GStreamer's errors, classified by what a user can do about them.

use std::time::Duration;

use gstreamer as gst;

use super::mask;

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// User name or password missing or wrong, or no permission.
    Refused,
    /// There is no such stream, file or device.
    NotFound,
    /// The server or device does not respond.
    Unreachable,
    /// The device is in use.
    Busy,
    /// The decoder is not installed; the failure's text is its name.
    NoDecoder,
    /// Of the streams that the server offers none can be received.
    NoStream,
    /// The server does not send over this transport.
    NoTransport,
    /// The input has no video.
    NoVideo,
    /// The format is unknown.
    UnknownFormat,
    /// No frame came for too long.
    Silent,
    /// A live stream ended.
    Ended,
    /// Its frames have more pixels than are allowed.
    TooLarge,
    /// Anything else; the text describes it.
    Other,
}

/// What `rtspsrc` says of an answer that it does not know.
const UNHANDLED: &str = "Unhandled error";

/// A failure of a running pipeline. Its text contains no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub kind: Kind,
    pub text: String,
}

impl Failure {
    pub(super) fn new(kind: Kind, text: &str) -> Self {
        Self { kind, text: mask(text.trim().trim_end_matches('.')) }
    }

    /// No frame has come for `time`.
    pub(super) fn silent(time: Duration) -> Self {
        Self::new(Kind::Silent, &format!("no frame for {:.1} s", time.as_secs_f64()))
    }

    /// Classifies a GStreamer error. `missing` is the name of a decoder that is not installed.
    pub(super) fn from_gstreamer(
        error: &gst::glib::Error,
        details: &str,
        missing: Option<&str>,
    ) -> Self {
        use gst::{CoreError, ResourceError, StreamError};
        if error.message() == UNHANDLED {
            // The details end with the server's answer.
            let answer = details.lines().last().unwrap_or(UNHANDLED);
            let is_refused = answer.contains("(403)");
            return Self::new(if is_refused { Kind::Refused } else { Kind::Other }, answer);
        }
        if let Some(missing) = missing {
            return Self::new(Kind::NoDecoder, missing);
        }
        let kind = match error.kind::<ResourceError>() {
            Some(ResourceError::NotAuthorized) => Kind::Refused,
            Some(ResourceError::NotFound) => Kind::NotFound,
            Some(ResourceError::Busy) => Kind::Busy,
            // Said by this program only; see `elements::limit_pixels`.
            Some(ResourceError::NoSpaceLeft) => Kind::TooLarge,
            Some(
                ResourceError::OpenRead | ResourceError::OpenReadWrite | ResourceError::OpenWrite,
            ) => Kind::Unreachable,
            _ => match error.kind::<StreamError>() {
                // A decoder that is missing has been named before.
                Some(StreamError::CodecNotFound) => Kind::NoStream,
                Some(StreamError::WrongType) => Kind::NoVideo,
                Some(StreamError::TypeNotFound) => Kind::UnknownFormat,
                _ if error.matches(CoreError::MissingPlugin) => Kind::NoDecoder,
                _ => Kind::Other,
            },
        };
        Self::new(kind, error.message())
    }

    /// What to install if a decoder is missing.
    pub(super) fn cure(&self) -> String {
        format!(
            "no decoder for it is installed ({}); install more of them with: apt-get install \
             gstreamer1.0-libav gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly",
            self.text
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_servers_are_told() {
        let error = gst::glib::Error::new(gst::ResourceError::Read, UNHANDLED);
        let said = |answer: &str| {
            Failure::from_gstreamer(&error, &format!("file.c(5): send ():\n{answer}"), None)
        };
        assert_eq!(said("Forbidden (403)").kind, Kind::Refused);
        let busy = Failure::new(Kind::Other, "Service Unavailable (503)");
        assert_eq!(said("Service Unavailable (503)"), busy);
    }

    #[test]
    fn errors_are_sorted_and_masked() {
        let error = gst::glib::Error::new(
            gst::ResourceError::NotAuthorized,
            "no entry to rtsp://user:secret@host/ today.",
        );
        let failure = Failure::from_gstreamer(&error, "", None);
        assert_eq!(failure, Failure::new(Kind::Refused, "no entry to rtsp://user:***@host/ today"));
        let error = gst::glib::Error::new(gst::StreamError::CodecNotFound, "no decoder");
        let failure = Failure::from_gstreamer(&error, "", Some("H.265 decoder"));
        assert_eq!(failure, Failure::new(Kind::NoDecoder, "H.265 decoder"));
        assert_eq!(Failure::from_gstreamer(&error, "", None).kind, Kind::NoStream);
    }
}
