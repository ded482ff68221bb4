//! Where an MQTT broker is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mmface::limited::read_limited;
use percent_encoding::percent_decode_str;
use rumqttc::{MqttOptions, TlsConfiguration, Transport};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::{Error, Result, source};

/// Most bytes of a file with a certificate.
const LARGEST: u64 = 1 << 20;
/// Most bytes of a message: records with all vertices of many faces.
const MESSAGE: usize = 64 << 20;
/// A connection on which nothing comes for so long is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An MQTT broker, and how to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Broker {
    host: String,
    port: u16,
    login: Option<(String, String)>,
    trust: Option<Trust>,
}

/// Whose certificates are trusted.
#[derive(Clone, PartialEq, Eq)]
enum Trust {
    System,
    Authority(PathBuf),
}

impl Broker {
    /// Reads `mqtt://HOST[:PORT]`, or `mqtts://` for TLS, with a user and a password in it or not.
    /// `password` is that of the user if the URL has none; `authority` a file with the certificate
    /// (PEM) that servers are trusted for.
    ///
    /// # Errors
    /// [`Error::Usage`] with what is wrong and what would be right.
    pub fn parse(url: &str, password: Option<String>, authority: Option<PathBuf>) -> Result<Self> {
        let wrong = |why: &str| {
            let url = source::mask(url);
            Error::Usage(format!("--mqtt {url} {why}: write mqtt://host or mqtts://host"))
        };
        let text = if url.contains("://") { url.to_owned() } else { format!("mqtt://{url}") };
        let parsed = url::Url::parse(&text).map_err(|_| wrong("is no MQTT broker"))?;
        let port = match parsed.scheme() {
            "mqtt" => 1883,
            "mqtts" => 8883,
            _ => return Err(wrong("is no MQTT broker")),
        };
        let host = parsed.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| wrong("names no host"))?.to_owned();
        if !matches!(parsed.path(), "" | "/") {
            return Err(wrong("has a path; the topic is set by --mqtt-topic"));
        }
        let trust = match (parsed.scheme(), authority) {
            ("mqtts", Some(file)) => Some(Trust::Authority(file)),
            ("mqtts", None) => Some(Trust::System),
            (_, Some(_)) => return Err(wrong("has no TLS, and --mqtt-ca is about TLS")),
            (_, None) => None,
        };
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let password = parsed.password().map(plain).or(password);
        let login = match (parsed.username(), password) {
            ("", None) => None,
            ("", Some(_)) => return Err(wrong("names no user for the password")),
            (user, password) => Some((plain(user), password.unwrap_or_default())),
        };
        Ok(Self { host, port: parsed.port().unwrap_or(port), login, trust })
    }

    /// The options of a connection by the name `client`, of which no two may be connected.
    ///
    /// # Errors
    /// [`Error::Usage`] if the authority's certificate cannot be read.
    pub(super) fn options(&self, client: &str) -> Result<MqttOptions> {
        let mut options = MqttOptions::new(client, &self.host, self.port);
        options.set_keep_alive(KEEP_ALIVE).set_max_packet_size(1 << 20, MESSAGE);
        // What was sent but not acknowledged is sent again on the next connection.
        options.set_clean_session(false);
        if let Some((user, password)) = &self.login {
            options.set_credentials(user, password);
        }
        if let Some(trust) = &self.trust {
            let tls = TlsConfiguration::Rustls(Arc::new(tls(trust)?));
            options.set_transport(Transport::tls_with_config(tls));
        }
        Ok(options)
    }
}

fn tls(trust: &Trust) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::System => {
            let found = rustls_native_certs::load_native_certs().certs;
            roots.add_parsable_certificates(found);
        }
        Trust::Authority(file) => {
            let certificates = certificates(file)?;
            roots.add_parsable_certificates(certificates);
        }
    }
    if roots.is_empty() {
        return Err(Error::Usage(match trust {
            Trust::System => "the system trusts no certificates: install ca-certificates, or name \
                              the broker's authority with --mqtt-ca FILE"
                .into(),
            Trust::Authority(file) => {
                format!("--mqtt-ca {}: there is no certificate (PEM) in it", file.display())
            }
        }));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Device(format!("TLS cannot be set up: {e}")))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |why: String| Error::Usage(format!("--mqtt-ca {}: {why}", file.display()));
    let text = read_limited(file, LARGEST).map_err(|e| wrong(e.to_string()))?;
    let certificates: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&text).collect();
    certificates.map_err(|e| wrong(e.to_string()))
}

/// Without user and password.
impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.trust.is_some() { "mqtts" } else { "mqtt" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> String {
        match Broker::parse(url, None, None) {
            Ok(broker) => format!("{broker} {:?}", broker.login),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn urls_are_read_and_mistakes_named() {
        assert_eq!(parsed("mqtt://home"), "mqtt://home:1883 None");
        assert_eq!(parsed("home:1884"), "mqtt://home:1884 None");
        assert_eq!(parsed("mqtts://[::1]"), "mqtts://[::1]:8883 None");
        assert_eq!(parsed("mqtt://me:p%40ss@home"), "mqtt://home:1883 Some((\"me\", \"p@ss\"))");
        assert!(parsed("http://home").contains("write mqtt://host"));
        assert!(parsed("mqtt://home/faces").contains("--mqtt-topic"));
        assert!(!parsed("http://me:secret@home").contains("secret"));
        let ca = Some("ca.pem".into());
        assert!(
            Broker::parse("mqtt://home", None, ca).is_err_and(|e| e.to_string().contains("TLS"))
        );
        let nobody = Broker::parse("mqtt://home", Some("x".into()), None);
        assert!(nobody.is_err_and(|e| e.to_string().contains("no user")));
    }
}
