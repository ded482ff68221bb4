//! The flags `--listen` and `--listen-token`.

use super::RunArgs;
use crate::sink::feed::Feed;
use crate::watch::Listen;
use crate::{Error, Result};

/// Host where none is named: only this machine.
const LOOPBACK: &str = "127.0.0.1";

/// Where to listen, if anywhere.
pub(super) fn of(args: &RunArgs) -> Result<Option<Listen>> {
    let token = args.listen_token.as_ref();
    if token.is_some_and(String::is_empty) {
        return Err(Error::Usage("--listen-token is empty".into()));
    }
    args.listen.as_deref().map(|address| parse(address, Feed::default(), token)).transpose()
}

/// Reads `PORT`, `HOST:PORT` or `[IPV6]:PORT`.
fn parse(address: &str, feed: Feed, token: Option<&String>) -> Result<Listen> {
    let wrong = || {
        Error::Usage(format!(
            "--listen {address} is no address: give a port (9102), or a host and a port \
             (0.0.0.0:9102, [::1]:9102)"
        ))
    };
    let (host, port) = address.rsplit_once(':').unwrap_or(("", address));
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match inner {
        Some(ip) if ip.parse::<std::net::Ipv6Addr>().is_ok() => ip,
        None if host.is_empty() => LOOPBACK,
        // An IPv6 address without brackets could not be told from its port.
        None if host.chars().all(|c| c.is_alphanumeric() || ".-_".contains(c)) => host,
        _ => return Err(wrong()),
    };
    Ok(Listen { host: host.into(), port, feed, token: token.cloned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (given, host, port) in [
            ("9102", LOOPBACK, 9102),
            (":9102", LOOPBACK, 9102),
            ("0", LOOPBACK, 0),
            ("0.0.0.0:80", "0.0.0.0", 80),
            ("localhost:9102", "localhost", 9102),
            ("[::1]:9102", "::1", 9102),
            ("[::]:9102", "::", 9102),
        ] {
            let listen = parse(given, Feed::default(), None).expect(given);
            assert_eq!((listen.host.as_str(), listen.port), (host, port), "{given}");
        }
        for wrong in
            ["", ":", "door", "65536", "+9", "-1", "::1:9102", "[door]:1", "a b:1", "http://a:1"]
        {
            let error = parse(wrong, Feed::default(), None).err().expect(wrong).to_string();
            assert!(error.contains("is no address"), "{error}");
        }
    }
}
