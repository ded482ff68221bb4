//! Turns flags into the plans of avatars' senders.

use std::path::Path;
use std::sync::Arc;

use mmface::TrackerOptions;
use serde::{Deserialize, Deserializer};

use super::RunArgs;
use super::config::seconds_within;
use super::sinks::Wanted;
use super::values::VtsParametersArg;
use crate::sink::avatar::choose::Choice;
use crate::sink::avatar::tune::Tuning;
use crate::sink::avatar::wire::Address;
use crate::sink::avatar::{Avatar, Kind, REST, Settings, vts};
use crate::source::{self, Input};
use crate::{Error, Result, neutral, secrets};

/// Reads a receiver's address from a configuration file: true is the usual place, a number is a
/// port.
pub(super) fn address<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected true, a port, or \"HOST:PORT\"")]
    enum Receiver {
        Switch(bool),
        Port(u16),
        Text(String),
    }
    Ok(match Receiver::deserialize(from)? {
        Receiver::Switch(on) => on.then(String::new),
        Receiver::Port(port) => Some(port.to_string()),
        Receiver::Text(text) => Some(text),
    })
}

/// Reads a face from a configuration file, where an id needs no quotes.
pub(super) fn face<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected largest, center, or a face's id")]
    enum Face {
        Id(u64),
        Name(String),
    }
    Ok(Some(match Face::deserialize(from)? {
        Face::Id(id) => id.to_string(),
        Face::Name(name) => name,
    }))
}

/// The senders that flags can ask for: flag, protocol, and the receiver's address.
pub(super) fn senders(args: &RunArgs) -> [(&'static str, Kind, &Option<String>); 6] {
    [
        ("--vmc", Kind::Vmc, &args.vmc),
        ("--live-link", Kind::LiveLink, &args.live_link),
        ("--ifacialmocap", Kind::IFacialMocap, &args.ifacialmocap),
        ("--openseeface", Kind::OpenSeeFace, &args.openseeface),
        ("--opentrack", Kind::OpenTrack, &args.opentrack),
        ("--vts", Kind::VTubeStudio, &args.vts),
    ]
}

/// The plans of the requested senders.
pub(super) fn plans(args: &RunArgs, input: &Input) -> Result<Vec<Wanted>> {
    let settings = settings(args)?;
    let mut plans: Vec<Wanted> = Vec::new();
    for (flag, kind, text) in senders(args) {
        let Some(text) = text else { continue };
        let address = address_of(kind, text)
            .map_err(|why| Error::Usage(format!("{flag}: {}", source::mask(&why))))?;
        let each = kind == Kind::Vmc && args.vmc_per_face;
        let faces =
            each.then(|| args.faces.map_or(TrackerOptions::default().faces, |n| n as usize));
        let settings = settings.clone();
        plans.push((flag, Box::new(Avatar { kind, address, faces, settings })));
    }
    if args.vmc.is_none() && (args.vmc_per_face || args.vmc_shapes.is_some()) {
        return Err(Error::Usage(
            "--vmc-per-face and --vmc-shapes say what the VMC protocol sends: add --vmc".into(),
        ));
    }
    if args.vmc_per_face && args.avatar_face.is_some() {
        return Err(Error::Usage(
            "--vmc-per-face sends every face, and --avatar-face chooses one: leave one out".into(),
        ));
    }
    if args.vts.is_none() && args.vts_parameters.is_some() {
        return Err(Error::Usage("--vts-parameters says what VTube Studio gets: add --vts".into()));
    }
    if plans.is_empty() && has_settings(args) {
        return Err(Error::Usage(
            "--avatar, --avatar-face, --avatar-rest, --mirror and --predict say how an avatar moves: \
             add --vmc, --live-link, --ifacialmocap, --openseeface, --opentrack or --vts"
                .into(),
        ));
    }
    if !plans.is_empty() && matches!(input, Input::File(_)) && !args.realtime {
        tracing::warn!(
            "the file is played as fast as possible, and the avatar moves as fast: --realtime \
             plays it in its own time"
        );
    }
    Ok(plans)
}

/// The address of a receiver. That of VTube Studio may be a URL.
fn address_of(kind: Kind, text: &str) -> std::result::Result<Address, String> {
    let text = match text.trim().split_once("://") {
        Some(("ws", rest)) if kind == Kind::VTubeStudio => rest.trim_end_matches('/'),
        Some(_) if kind == Kind::VTubeStudio => {
            return Err(format!("{text} is not what VTube Studio speaks: write ws://HOST:PORT"));
        }
        _ => text,
    };
    Address::parse(text, kind.port())
}

fn has_settings(args: &RunArgs) -> bool {
    args.avatar.is_some()
        || args.avatar_face.is_some()
        || args.avatar_rest.is_some()
        || args.mirror
        || args.predict.is_some()
}

/// Where neutral faces come from. By default avatars of a live source learn them; files are
/// measured as they are.
pub(super) fn neutral(args: &RunArgs, input: &Input) -> Result<neutral::Settings> {
    let moves = senders(args).iter().any(|(.., to)| to.is_some());
    if args.calibrate.is_some() && !moves && args.neutral.is_none() {
        return Err(Error::Usage(
            "--calibrate makes a face zero for avatars and in the records' `relative`: add --vmc or \
             another avatar, or --neutral auto"
                .into(),
        ));
    }
    let source = match args.neutral.as_deref() {
        None if moves && input.is_live() => neutral::Source::Auto,
        None => neutral::Source::Off,
        Some(word) if word == Path::new("off") => neutral::Source::Off,
        Some(word) if word == Path::new("auto") => neutral::Source::Auto,
        Some(file) => neutral::Source::File(file.into()),
    };
    let after = args.calibrate.map(|s| seconds_within("calibrate", s, 0.0..=3600.0)).transpose()?;
    Ok(neutral::Settings { source, after })
}

fn settings(args: &RunArgs) -> Result<Settings> {
    let wrong = |why| Error::Usage(format!("--avatar: {why}"));
    Ok(Settings {
        choice: args.avatar_face.as_deref().map_or(Ok(Choice::Largest), choice)?,
        rest: args
            .avatar_rest
            .map_or(Ok(REST), |s| seconds_within("avatar-rest", s, 0.0..=3600.0))?,
        mirror: args.mirror,
        predict: args.predict.map_or(Ok(0.0), |ms| {
            if (0.0..=500.0).contains(&ms) {
                return Ok((ms / 1e3) as f32);
            }
            Err(Error::Usage(format!("--predict {ms} is not within 0 to 500 milliseconds")))
        })?,
        shapes: args.vmc_shapes.map_or_else(Default::default, Into::into),
        tuning: match &args.avatar {
            Some(path) => Arc::new(Tuning::read(path).map_err(wrong)?),
            None => Arc::default(),
        },
        vts: vts::Options {
            folder: secrets::folder(),
            arkit: args.vts_parameters == Some(VtsParametersArg::Arkit),
        },
    })
}

fn choice(text: &str) -> Result<Choice> {
    match text {
        "largest" => Ok(Choice::Largest),
        "center" | "centre" => Ok(Choice::Center),
        id => id.parse().map(Choice::Id).map_err(|_| {
            Error::Usage(format!(
                "--avatar-face {id} is no face: it is largest, center, or an id from the records"
            ))
        }),
    }
}
