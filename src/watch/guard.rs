//! Who may read the records: they tell what somebody does in front of a camera.
//!
//! On this machine alone, every program may, but no page of another site that a browser shows here.
//! Where others can reach the server, they need a token.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hyper::Request;
use hyper::header::{self, HeaderMap, HeaderName};
use url::{Url, form_urlencoded};

use crate::{secrets, source};

/// Name of the token's file in the user's configuration.
const FILE: &str = "listen-token";
/// Random bytes of a token.
const BYTES: usize = 16;

/// What readers have to bring.
pub(super) enum Guard {
    /// Nothing: only this machine can reach the server.
    Local,
    /// This token.
    Token(String),
    /// There is no token, so nobody may.
    Nobody,
}

/// Why somebody may not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A page of another site asks.
    OtherSite,
    /// The token is missing, or another.
    NoToken,
}

impl Guard {
    /// The guard of a server at `address`. A `token` that the user has given is asked for
    /// everywhere; else one is made where others can reach the server.
    pub(super) fn new(token: Option<String>, address: SocketAddr) -> Self {
        if let Some(token) = token {
            source::hide(&token);
            return Self::Token(token);
        }
        if address.ip().is_loopback() {
            return Self::Local;
        }
        match kept_token() {
            Ok((token, file)) => {
                source::hide(&token);
                tracing::info!(
                    "whoever reaches {address} can read the records with the token in {file}"
                );
                Self::Token(token)
            }
            Err(e) => {
                tracing::warn!(
                    "nobody can read the records at {address}: a token is needed, and none can be \
                     kept ({e}); set MMFACE_LISTEN_TOKEN"
                );
                Self::Nobody
            }
        }
    }

    /// Whether this request may read records.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let headers = request.headers();
        if is_of_other_site(headers) {
            return Err(Refusal::OtherSite);
        }
        match self {
            // A page can make its own name stand for this machine. The browser then still says
            // which name it asks for.
            Self::Local => match text(headers, &header::HOST) {
                Some(host) if !is_this_machine(host) => Err(Refusal::OtherSite),
                _ => Ok(()),
            },
            Self::Token(token) => {
                let brought = bearer(headers).map(Into::into).or_else(|| in_query(request));
                let is_right = |brought: String| equals(brought.as_bytes(), token.as_bytes());
                if brought.is_some_and(is_right) { Ok(()) } else { Err(Refusal::NoToken) }
            }
            Self::Nobody => Err(Refusal::NoToken),
        }
    }
}

/// The token in the user's configuration, which is made the first time, and its file.
fn kept_token() -> io::Result<(String, String)> {
    let folder =
        secrets::folder().ok_or_else(|| io::Error::other("the user has no home folder"))?;
    let path = folder.join(FILE);
    let kept = secrets::read(&path)?.map(|text| text.trim().to_owned());
    let token = match kept.filter(|token| !token.is_empty()) {
        Some(token) => token,
        None => {
            let mut random = [0; BYTES];
            io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut random)?;
            let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            secrets::write(&path, &format!("{token}\n"))?;
            token
        }
    };
    Ok((token, path.display().to_string()))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

/// Whether a browser says that a page of another site asks.
fn is_of_other_site(headers: &HeaderMap) -> bool {
    if text(headers, &HeaderName::from_static("sec-fetch-site")) == Some("cross-site") {
        return true;
    }
    let Some(origin) = text(headers, &header::ORIGIN) else { return false };
    let host = text(headers, &header::HOST).unwrap_or_default();
    let authority = origin.split_once("://").map(|(_, rest)| rest);
    authority.is_none_or(|authority| !authority.eq_ignore_ascii_case(host))
}

/// Whether this name, with or without a port, is that of the machine itself.
fn is_this_machine(host: &str) -> bool {
    let Ok(url) = Url::parse(&format!("http://{host}/")) else { return false };
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(url::Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, &header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn in_query<B>(request: &Request<B>) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "token");
    found.map(|(_, token)| token.into_owned())
}

/// Compares in a time that does not tell where they differ.
fn equals(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(guard: &Guard, path: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let request = headers
            .iter()
            .fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
        guard.check(&request.body(()).expect("a request"))
    }

    #[test]
    fn only_pages_of_this_machine_may_read() {
        let guard = Guard::new(None, "127.0.0.1:8080".parse().expect("an address"));
        let ask = |headers: &[(&str, &str)]| asked(&guard, "/records", headers);
        assert_eq!(ask(&[]), Ok(()), "HTTP/1.0");
        for host in ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "LOCALHOST", "127.1.2.3"] {
            assert_eq!(ask(&[("host", host)]), Ok(()), "{host}");
            let origin = format!("http://{host}");
            assert_eq!(ask(&[("host", host), ("origin", &origin)]), Ok(()), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8080", "192.168.0.7", "", "[", "a b"] {
            assert_eq!(ask(&[("host", host)]), Err(Refusal::OtherSite), "{host}");
        }
        for origin in ["http://evil.example", "null", "http://localhost:9", "localhost:8080", ""] {
            let headers = [("host", "localhost:8080"), ("origin", origin)];
            assert_eq!(ask(&headers), Err(Refusal::OtherSite), "{origin}");
        }
        let fetched = [("host", "localhost"), ("sec-fetch-site", "cross-site")];
        assert_eq!(ask(&fetched), Err(Refusal::OtherSite));
    }

    #[test]
    fn a_token_is_asked_for_wherever_there_is_one() {
        let guard = Guard::new(Some("open sesame".into()), "127.0.0.1:1".parse().expect("one"));
        let host = ("host", "pc.example");
        assert_eq!(asked(&guard, "/records", &[host]), Err(Refusal::NoToken));
        for (path, headers) in [
            ("/records?token=open+sesame", &[host][..]),
            ("/records?stream=a&token=open%20sesame", &[host]),
            ("/records", &[host, ("authorization", "Bearer open sesame")]),
            ("/records", &[host, ("authorization", "bearer open sesame")]),
        ] {
            assert_eq!(asked(&guard, path, headers), Ok(()), "{path}");
        }
        for wrong in ["Bearer open sesam", "Bearer open sesamee", "Basic open sesame", "Bearer", ""]
        {
            let headers = [host, ("authorization", wrong)];
            assert_eq!(asked(&guard, "/records", &headers), Err(Refusal::NoToken), "{wrong}");
        }
        let foreign = [host, ("origin", "http://evil.example")];
        assert_eq!(asked(&guard, "/records?token=open+sesame", &foreign), Err(Refusal::OtherSite));
    }
}
