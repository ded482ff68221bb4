//! NATS: connections to its servers, and what is kept there.
//!
//! All that talks to NATS runs on small tokio runtimes of its own threads; the rest of the program
//! uses threads and channels.

mod records;

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use tokio::sync::watch;

pub(crate) use records::{Keep, STREAM, open as open_records, subject};

use crate::{Error, Result, source};

/// How long a server may take to answer when a connection is made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How often the server is asked whether it is still there: a cut cable shows after two of these.
const PING: Duration = Duration::from_secs(2);

/// Where the servers are, and how they know who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Servers {
    /// URLs of the servers, without credentials.
    urls: Vec<String>,
    login: Login,
    /// A file with credentials, as `nsc` makes it.
    credentials: Option<PathBuf>,
    /// A file with the certificate of the authority that the servers are trusted for.
    authority: Option<PathBuf>,
}

#[derive(Clone, PartialEq, Eq)]
enum Login {
    None,
    Token(String),
    User { name: String, password: String },
}

/// Whether there is a connection, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Link {
    /// There is one.
    Up,
    /// There is none.
    Down(String),
}

impl Servers {
    /// Reads `URL[,URL…]`. User and password, or a token, may stand in the first URL.
    ///
    /// # Errors
    /// [`Error::Usage`] with what is wrong and what would be right.
    pub fn parse(
        urls: &str,
        token: Option<String>,
        credentials: Option<PathBuf>,
        authority: Option<PathBuf>,
    ) -> Result<Self> {
        let mut login = token.map_or(Login::None, Login::Token);
        let mut plain = Vec::new();
        for url in urls.split(',').map(str::trim) {
            let wrong = || {
                let url = source::mask(url);
                Error::Usage(format!(
                    "--nats {url} is no NATS server: write nats://host:4222, or tls://host:4222"
                ))
            };
            let text = if url.contains("://") { url.into() } else { format!("nats://{url}") };
            let mut parsed = url::Url::parse(&text).map_err(|_| wrong())?;
            let known = ["nats", "tls"].contains(&parsed.scheme());
            if !known || parsed.host_str().is_none_or(str::is_empty) {
                return Err(wrong());
            }
            if login == Login::None {
                login = login_of(&parsed);
            }
            // Both fail only for URLs without a host.
            let _ = parsed.set_username("");
            let _ = parsed.set_password(None);
            parsed.to_string().parse::<ServerAddr>().map_err(|_| wrong())?;
            plain.push(parsed.to_string());
        }
        match &login {
            Login::Token(secret) | Login::User { password: secret, .. } => source::hide(secret),
            Login::None => {}
        }
        Ok(Self { urls: plain, login, credentials, authority })
    }

    /// The servers, for messages.
    pub(crate) fn label(&self) -> String {
        self.urls.join(", ")
    }

    async fn options(&self, name: &str) -> Result<ConnectOptions> {
        let mut options = ConnectOptions::new()
            .name(name)
            .connection_timeout(CONNECT)
            .request_timeout(Some(ANSWER))
            .ping_interval(PING)
            .reconnect_delay_callback(|attempt| {
                Duration::from_millis((100 << attempt.min(5)).min(2000))
            });
        options = match self.login.clone() {
            Login::None => options,
            Login::Token(token) => options.token(token),
            Login::User { name, password } => options.user_and_password(name, password),
        };
        if let Some(path) = &self.credentials {
            options = options.credentials_file(path).await.map_err(|e| {
                let path = path.display();
                Error::Usage(format!(
                    "--nats-credentials {path} cannot be read: {e}; name a file that nsc made"
                ))
            })?;
        }
        if let Some(path) = &self.authority {
            if !path.is_file() {
                let path = path.display();
                return Err(Error::Usage(format!(
                    "--nats-ca {path} is not there: name a file with a PEM certificate"
                )));
            }
            options = options.add_root_certificates(path.clone());
        }
        Ok(options)
    }

    /// Connects once. From then on the connection is made again whenever it is lost; the channel
    /// tells how it is.
    ///
    /// # Errors
    /// [`Error::Usage`] for files that cannot be read, [`Error::Sink`] if no server answers or lets
    /// this program in.
    pub(crate) async fn connect(&self, name: &str) -> Result<(Client, watch::Receiver<Link>)> {
        let (tell, link) = watch::channel(Link::Up);
        let options = self.options(name).await?.event_callback(move |event| {
            match event {
                Event::Connected => drop(tell.send_replace(Link::Up)),
                Event::Disconnected => {
                    tell.send_replace(Link::Down("the connection was lost".into()));
                }
                Event::ClientError(error) => {
                    tell.send_if_modified(|link| match link {
                        Link::Down(why) => {
                            *why = error.to_string();
                            true
                        }
                        Link::Up => false,
                    });
                }
                _ => {}
            }
            async {}
        });
        let client = options.connect(&self.urls[..]).await.map_err(|e| self.refused(&e))?;
        Ok((client, link))
    }

    fn refused(&self, error: &async_nats::ConnectError) -> Error {
        let servers = self.label();
        // Some of these come as failures of the connection.
        let kind = match error.kind() {
            ConnectErrorKind::Io if source_of(error).contains("certificate") => {
                ConnectErrorKind::Tls
            }
            kind => kind,
        };
        Error::Sink(match kind {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => format!(
                "{servers} does not let this program in: check user and password, --nats-token or \
                 --nats-credentials"
            ),
            ConnectErrorKind::Tls => format!(
                "{servers} shows no certificate that is trusted here ({}): name its authority with \
                 --nats-ca",
                source_of(error)
            ),
            _ => format!("{servers} cannot be reached: {}", source_of(error)),
        })
    }
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.label())
    }
}

/// User and password, or a token, as they stand in a URL.
fn login_of(url: &url::Url) -> Login {
    let plain = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into();
    match (url.username(), url.password()) {
        ("", None) => Login::None,
        (token, None) => Login::Token(plain(token)),
        (name, Some(password)) => Login::User { name: plain(name), password: plain(password) },
    }
}

/// The innermost reason of an error.
pub(crate) fn source_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A runtime for a thread that talks to NATS.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    let failed = |e| Error::Device(format!("cannot start what talks to NATS: {e}"));
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)
}

/// A stream's name as a part of subjects and keys: letters, digits, `-` and `_` stay, every other
/// byte becomes `=` and two digits.
#[must_use]
pub fn token(name: &str) -> String {
    let mut token = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => token.push(byte.into()),
            _ => token.push_str(&format!("={byte:02X}")),
        }
    }
    token
}

/// The name behind a token; `None` for what is none.
#[must_use]
pub fn name_of(token: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let [first, more @ ..] = rest {
        if *first == b'=' {
            let digits = std::str::from_utf8(more.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &more[2..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(urls: &str) -> Result<Servers> {
        Servers::parse(urls, None, None, None)
    }

    #[test]
    fn servers_are_read_and_secrets_are_taken_out() {
        let servers = parse("nats://me:open%20sesame@a:4222, b").expect("two servers");
        assert_eq!(servers.label(), "nats://a:4222, nats://b");
        let login = Login::User { name: "me".into(), password: "open sesame".into() };
        assert!(servers.login == login);
        assert_eq!(source::mask("it is open sesame"), "it is ***");
        assert!(
            parse("tls://t0ken-of-a-test@a").expect("one").login
                == Login::Token("t0ken-of-a-test".into())
        );
        for wrong in ["http://a", "", "nats://", "a,,b", "a b"] {
            let error = parse(wrong).expect_err(wrong);
            assert_eq!(error.exit_code(), 2);
        }
        let error = parse("http://me:hidden-one@a").expect_err("wrong").to_string();
        assert!(!error.contains("hidden-one"), "{error}");
    }

    #[test]
    fn every_name_becomes_a_token_and_comes_back() {
        assert_eq!(token("door-1_a"), "door-1_a");
        assert_eq!(token("a.b *>="), "a=2Eb=20=2A=3E=3D");
        for name in ["", "Tür", "rtsp://a/b?c", "=41", "a\nb"] {
            assert_eq!(name_of(&token(name)).as_deref(), Some(name));
        }
        for wrong in ["=4", "=zz", "=FF"] {
            assert_eq!(name_of(wrong), None, "{wrong}");
        }
    }
}
