//! Masks passwords in text.

use std::sync::{Mutex, PoisonError};

/// Replaces a password.
const HIDDEN: &str = "***";
/// Parameters of URLs and of GStreamer elements that contain a secret.
const SECRET_KEYS: [&str; 7] = ["password=", "passwd=", "pass=", "pwd=", "psw=", "pw=", "token="];

/// Passwords that the user has given, wherever they stood.
static SECRETS: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// Shorter passwords are masked only where they stand in a URL: they occur in other words.
const SHORTEST: usize = 5;

/// Remembers the passwords in something that the user has given: an argument, a line of a file.
/// [`mask`] finds them again even where a message has taken the URL apart.
pub fn remember(given: &str) {
    for text in std::iter::once(given).chain(given.split_whitespace()) {
        let user = text.split_once("://").map_or(text, |(_, rest)| rest);
        let Some(secret) =
            user.rfind('@').and_then(|at| Some(&user[user[..at].find(':')? + 1..at]))
        else {
            continue;
        };
        hide(secret);
    }
    given.split([',', ' ', '"', '=']).filter_map(nats_token).for_each(hide);
}

/// The token that stands as the user of a URL of NATS.
fn nats_token(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("nats://").or_else(|| url.strip_prefix("tls://"))?;
    let user = &rest[..rest.split('/').next()?.rfind('@')?];
    (!user.contains(':')).then_some(user)
}

/// Remembers a secret, however it came to be known.
pub fn hide(secret: &str) {
    let mut secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    if !secret.is_empty() && !secrets.iter().any(|known| known == secret) {
        secrets.push(secret.to_owned());
        // The longest first, because one may contain another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }
}

/// `text` with the passwords in all URLs and parameters masked: `rtsp://user:***@host/…`.
#[must_use]
pub fn mask(text: &str) -> String {
    let text = mask_remembered(text);
    let mut masked = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("://") {
        let (scheme, tail) = rest.split_at(at + 3);
        let (url, next) = tail.split_at(tail.find(is_delimiter).unwrap_or(tail.len()));
        masked.push_str(&mask_words(scheme));
        masked.push_str(&mask_user(url));
        rest = next;
    }
    masked.push_str(&mask_words(rest));
    mask_keys(masked)
}

fn is_delimiter(c: char) -> bool {
    c.is_whitespace() || "\"'<>`".contains(c)
}

/// Whether a password is so short, or such a word, that messages hold it for other reasons.
fn is_word(secret: &str) -> bool {
    let secret = secret.to_ascii_lowercase();
    secret.len() < SHORTEST || SECRET_KEYS.iter().any(|key| key.starts_with(&secret))
}

/// Masks `user:password@host` where no scheme stands before it, or half of one.
fn mask_words(text: &str) -> String {
    text.split_inclusive(is_delimiter).map(mask_user).collect()
}

fn mask_remembered(text: &str) -> String {
    let secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    secrets.iter().fold(text.to_owned(), |text, secret| {
        let text = text.replace(&format!(":{secret}@"), &format!(":{HIDDEN}@"));
        if is_word(secret) { text } else { text.replace(secret, HIDDEN) }
    })
}

/// As [`mask`], for a text that is a single URL, so that even a password with spaces is masked.
pub(super) fn mask_url(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => mask_keys(format!("{scheme}://{}", mask_user(rest))),
        None => mask_keys(url.to_owned()),
    }
}

/// Masks everything between the first `:` and the last `@` of a URL without its scheme. Users
/// forget to encode `@` and `/` in passwords, so this rather masks too much than too little.
fn mask_user(url: &str) -> String {
    match url.rfind('@').and_then(|at| Some((url[..at].find(':')?, at))) {
        Some((colon, at)) => format!("{}:{HIDDEN}{}", &url[..colon], &url[at..]),
        None => url.to_owned(),
    }
}

fn mask_keys(mut text: String) -> String {
    for key in SECRET_KEYS {
        let mut from = 0;
        // ASCII lower case does not change byte positions.
        while let Some(at) = text[from..].to_ascii_lowercase().find(key) {
            let mut start = from + at + key.len();
            let quote = text[start..].chars().next().filter(|&c| c == '"' || c == '\'');
            start += quote.map_or(0, char::len_utf8);
            let end = text[start..].find(|c: char| match quote {
                Some(quote) => c == quote,
                None => c.is_whitespace() || "&/\"'".contains(c),
            });
            text.replace_range(start..end.map_or(text.len(), |end| start + end), HIDDEN);
            from = start + HIDDEN.len();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden() {
        for (open, hidden) in [
            ("rtsp://user:secret@host/live", "rtsp://user:***@host/live"),
            ("rtsp://user:se@cr/et@host:554/live", "rtsp://user:***@host:554/live"),
            (
                "rtsp://host:554/live?user=a&password=secret",
                "rtsp://host:554/live?user=a&password=***",
            ),
            ("rtsp://host/user=admin_PASSWORD=secret", "rtsp://host/user=admin_PASSWORD=***"),
            ("rtsp://user@host/live", "rtsp://user@host/live"),
            ("rtsp://host:554/live", "rtsp://host:554/live"),
            ("no URL at all", "no URL at all"),
        ] {
            assert_eq!(mask(open), hidden);
            assert_eq!(mask_url(open), hidden);
        }
    }

    #[test]
    fn what_was_given_is_masked_wherever_it_stands() {
        for given in ["--file=rtsp://me:s3 cr:t@host/a", "you:hush/hush@host", "rtsp:/a:b@c"] {
            remember(given);
        }
        assert_eq!(mask("no rtsp:/me:s3 cr:t@host/a there"), "no rtsp:***@host/a there");
        assert_eq!(mask("tried s3 cr:t and hush/hush"), "tried *** and ***");
        assert_eq!(mask("a b c"), "a b c", "short ones are words");
        assert_eq!(mask("who knows nobody:unknown@host/x?"), "who knows nobody:***@host/x?");
        assert_eq!(mask("at 10:20:30 me@host wrote"), "at 10:20:30 me@host wrote");
    }

    #[test]
    fn tokens_of_nats_are_passwords() {
        remember("nats = \"nats://t0p-s3cret@host:4222,tls://b\"");
        assert_eq!(mask("nats://t0p-s3cret@host:4222 is away"), "nats://***@host:4222 is away");
        assert_eq!(nats_token("rtsp://user@host"), None);
        assert_eq!(nats_token("nats://host/a@b"), None);
    }

    #[test]
    fn every_url_in_a_text_is_masked() {
        let text = "rtspsrc location=\"rtsp://a:b@c/d\" ! x, then rtsps://e:f@g";
        assert_eq!(mask(text), "rtspsrc location=\"rtsp://a:***@c/d\" ! x, then rtsps://e:***@g");
        assert_eq!(mask_url("rtsp://a:b c@d"), "rtsp://a:***@d");
        assert_eq!(mask("rtspsrc user-pw=\"a b\" ! x"), "rtspsrc user-pw=\"***\" ! x");
        assert_eq!(mask("rtspsrc user-pw=ab ! x"), "rtspsrc user-pw=*** ! x");
    }
}
