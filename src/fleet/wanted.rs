//! The streams that a fleet is to run, as the operator writes them: tables `[[stream]]` as in a
//! configuration file. Secrets stay out: `${NAME}` is a variable of the worker's environment,
//! `${file:PATH}` a file on the worker.

use std::collections::BTreeMap;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::{Error, Result, secrets, source};

/// Keys that belong to a worker, not to a stream.
const OF_WORKERS: [&str; 20] = [
    "config",
    "detector",
    "detector-model",
    "device",
    "engine-cache",
    "engines",
    "listen",
    "listen-token",
    "nats",
    "nats-ca",
    "nats-credentials",
    "nats-keep",
    "nats-replicas",
    "nats-token",
    "no-cuda-graph",
    "precision",
    "spool",
    "spool-limit",
    "threads",
    "variant",
];

/// A stream as it stands in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its settings, as TOML.
    pub settings: String,
}

/// Reads the tables `[[stream]]` of a file. What stands above them holds for all. `check` tells
/// whether a worker could run a stream with these settings.
///
/// # Errors
/// [`Error::Usage`] with what is wrong and where.
pub fn read(text: &str, path: &Path, check: impl Fn(&str) -> Result<()>) -> Result<Vec<Wanted>> {
    let wrong = |why: String| Error::Usage(format!("{}: {why}", path.display()));
    let mut common: Table =
        toml::from_str(text).map_err(|e| wrong(source::mask(&e.message().replace('\n', " "))))?;
    let Some(Value::Array(tables)) = common.remove("stream") else {
        return Err(wrong("there is no [[stream]] in it".into()));
    };
    let mut all = BTreeMap::new();
    for table in tables {
        let Value::Table(table) = table else {
            return Err(wrong("stream is a name; write tables [[stream]]".into()));
        };
        let mut settings = common.clone();
        settings.extend(table);
        if let Some(key) = OF_WORKERS.into_iter().find(|key| settings.contains_key(*key)) {
            return Err(wrong(format!("{key} holds for a worker; give it to mmface-live worker")));
        }
        let name = settings.get("name").and_then(Value::as_str).map(str::to_owned);
        let Some(name) = name.filter(|name| !name.is_empty() && name.len() <= 100) else {
            return Err(wrong("every [[stream]] needs a name = \"…\" of its own".into()));
        };
        if settings.values().any(shows_a_password) {
            return Err(wrong(format!(
                "the password of {name} stands in it; write ${{NAME}} in its place, and set that \
                 variable for the workers"
            )));
        }
        let settings = toml::to_string(&settings).map_err(|e| wrong(e.to_string()))?;
        // Whatever a worker could not read is told here.
        check(&settings)?;
        if all.insert(name.clone(), settings).is_some() {
            return Err(wrong(format!("two streams are called {name}")));
        }
    }
    Ok(all.into_iter().map(|(name, settings)| Wanted { name, settings }).collect())
}

/// Whether a password stands where a reference to one should.
fn shows_a_password(value: &Value) -> bool {
    let Value::String(text) = value else { return false };
    let without = without_references(text);
    without != source::mask(&without)
}

/// The text with nothing in the place of references.
fn without_references(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some((before, after)) = rest.split_once("${") {
        // A URL whose password is a reference has none without it.
        out.push_str(before.strip_suffix(':').unwrap_or(before));
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// The settings of a stream, with the secrets of this worker.
///
/// # Errors
/// [`Error::Usage`] if a secret is not here.
pub(super) fn resolved(settings: &str) -> Result<String> {
    let mut table: Table =
        toml::from_str(settings).map_err(|e| Error::Usage(format!("settings: {}", e.message())))?;
    for value in table.iter_mut().map(|(_, value)| value) {
        if let Value::String(text) = value {
            *text = fill(text)?;
        }
    }
    toml::to_string(&table).map_err(|e| Error::Bug(e.to_string()))
}

fn fill(text: &str) -> Result<String> {
    let is_url = text.contains("://");
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else {
            return Err(Error::Usage(format!("in {text} a ${{ has no end")));
        };
        let secret = secret(name)?;
        source::hide(&secret);
        out.push_str(before);
        if is_url {
            let encoded = utf8_percent_encode(&secret, NON_ALPHANUMERIC).to_string();
            source::hide(&encoded);
            out.push_str(&encoded);
        } else {
            out.push_str(&secret);
        }
        rest = behind;
    }
    Ok(out + rest)
}

fn secret(name: &str) -> Result<String> {
    let missing = |why: String| Error::Usage(format!("{why} on this worker"));
    let Some(path) = name.strip_prefix("file:") else {
        return std::env::var(name).map_err(|_| missing(format!("the variable {name} is not set")));
    };
    match secrets::read(Path::new(path)) {
        Ok(Some(text)) => Ok(text.trim_end_matches(['\n', '\r']).into()),
        Ok(None) => Err(missing(format!("the file {path} is not there"))),
        Err(e) => Err(missing(format!("the file {path} cannot be read ({e})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Wanted>> {
        let path = Path::new("cameras.toml");
        read(text, path, |settings| {
            let args = crate::cli::config::parse(settings, path)?;
            crate::cli::config::input(&args).map(|_| ())
        })
    }

    #[test]
    fn streams_are_read_with_what_holds_for_all() {
        let text = "faces = 1\n[[stream]]\nname = \"door\"\nrtsp = \"rtsp://a:${DOOR}@h/1\"\n\
                    [[stream]]\nname = \"gate\"\nfile = \"x.mp4\"\nfaces = 2\n";
        let streams = read_text(text).expect("streams");
        assert_eq!(streams.len(), 2);
        assert!(streams[0].settings.contains("faces = 1"), "{streams:?}");
        assert!(streams[0].settings.contains("${DOOR}"), "{streams:?}");
        assert!(streams[1].settings.contains("faces = 2"), "{streams:?}");
    }

    #[test]
    fn what_is_wrong_is_told_without_a_password() {
        let door = "[[stream]]\nname = \"door\"\n";
        for (text, why) in [
            ("faces = 1", "no [[stream]]"),
            ("[[stream]]\nfile = \"x\"", "needs a name"),
            (&format!("device = \"cpu\"\n{door}file = \"x\""), "device holds for a worker"),
            (&format!("{door}rtsp = \"rtsp://a:hush-hush@h/1\""), "the password of door"),
            (&format!("{door}rtsp = \"rtsp://a:x${{B}}@h/1\""), "the password of door"),
            (&format!("{door}file = \"x\"\nfases = 1"), "fases"),
            (&format!("{door}file = \"x\"\n{door}file = \"y\""), "two streams are called door"),
            (door, "name a source"),
        ] {
            let error = read_text(text).expect_err(text).to_string();
            assert!(error.contains(why) && !error.contains("hush-hush"), "{error}");
        }
    }

    #[test]
    fn secrets_are_those_of_the_worker() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "p@ss:wörd-of-a-file\n").expect("written");
        let settings = format!("rtsp = \"rtsp://me:${{file:{}}}@h/1\"\n", file.display());
        let text = resolved(&settings).expect("resolved");
        assert!(text.contains("rtsp://me:p%40ss%3Aw%C3%B6rd%2Dof%2Da%2Dfile@h/1"), "{text}");
        assert!(!source::mask("it is p@ss:wörd-of-a-file").contains("wörd"));
        let missing = resolved("rtsp = \"rtsp://me:${MMFACE_NOT_SET}@h\"").expect_err("not set");
        assert!(missing.to_string().contains("MMFACE_NOT_SET is not set on this worker"));
    }
}
