//! Avatars: sends each frame's head pose and coefficients to programs that move avatars.
//!
//! All senders share what lies between the faces of a frame and a [`Pose`]: which face
//! (`choose`), the mirror, what becomes of a lost face (`rest`), ARKit's coefficients
//! ([`arkit`]) and the user's curves ([`tune`]). A [`Protocol`] turns the pose into packets, and a
//! [`wire`] sends them.

pub mod arkit;
pub mod choose;
mod defaults;
mod ifacialmocap;
mod live_link;
mod openseeface;
mod opentrack;
pub mod pose;
mod rest;
pub mod tune;
mod vmc;
pub mod wire;

use std::ops::ControlFlow;
use std::sync::Arc;

use mmface::face::{FaceModel, Params};
use nalgebra::UnitQuaternion;

use self::arkit::Mapping;
use self::choose::{Choice, Chooser};
use self::pose::{Pose, USUAL_DISTANCE, position};
use self::rest::Rest;
use self::tune::Tuning;
use self::wire::{Address, Wire};
use super::{Context, Event, FrameEvent, Plan, Sink, WhenSlow};
use crate::Result;

/// A protocol of avatars' programs.
pub trait Protocol: Send {
    /// Appends the packets of a frame.
    fn packets(&mut self, pose: &Pose, out: &mut Vec<Vec<u8>>);
}

/// Which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `--vmc`.
    Vmc,
    /// `--live-link`.
    LiveLink,
    /// `--ifacialmocap`.
    IFacialMocap,
    /// `--openseeface`.
    OpenSeeFace,
    /// `--opentrack`.
    OpenTrack,
}

impl Kind {
    /// Name of the protocol's sink, which is that of its flag.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vmc => "vmc",
            Self::LiveLink => "live-link",
            Self::IFacialMocap => "ifacialmocap",
            Self::OpenSeeFace => "openseeface",
            Self::OpenTrack => "opentrack",
        }
    }

    /// The port on which its receivers listen.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Vmc => vmc::PORT,
            Self::LiveLink => live_link::PORT,
            Self::IFacialMocap => ifacialmocap::PORT,
            Self::OpenSeeFace => openseeface::PORT,
            Self::OpenTrack => opentrack::PORT,
        }
    }

    fn protocol(self, context: &Context, tuning: &Tuning) -> Box<dyn Protocol> {
        match self {
            Self::Vmc => Box::new(vmc::Vmc::new(&tuning.names)),
            Self::LiveLink => Box::new(live_link::LiveLink::new(&context.stream)),
            Self::IFacialMocap => Box::new(ifacialmocap::IFacialMocap::new(&tuning.names)),
            Self::OpenSeeFace => Box::new(openseeface::OpenSeeFace::new(context.model.clone())),
            Self::OpenTrack => Box::new(opentrack::OpenTrack),
        }
    }
}

/// What holds for all senders of a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which face.
    pub choice: Choice,
    /// Seconds over which a lost face goes to rest.
    pub rest: f64,
    /// Whether left and right change places, as in a mirror.
    pub mirror: bool,
    /// How coefficients become the avatar's.
    pub tuning: Arc<Tuning>,
}

/// Seconds over which a lost face goes to rest, unless the user says otherwise.
pub const REST: f64 = 0.5;

impl Default for Settings {
    fn default() -> Self {
        Self { choice: Choice::Largest, rest: REST, mirror: false, tuning: Arc::default() }
    }
}

/// A sink that moves an avatar.
#[derive(Debug)]
pub struct Avatar {
    /// Its protocol.
    pub kind: Kind,
    /// Where the packets go.
    pub address: Address,
    /// What all senders share.
    pub settings: Settings,
}

impl Plan for Avatar {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn when_slow(&self) -> WhenSlow {
        WhenSlow::DropOldest
    }

    fn open(self: Box<Self>, context: &Arc<Context>) -> Result<Box<dyn Sink>> {
        let Self { kind, address, settings } = *self;
        let protocol = kind.protocol(context, &settings.tuning);
        let wire = Wire::new(address, context.counters.sink(kind.name()));
        let poser = Poser::new(context.model.clone(), settings);
        Ok(Box::new(Sender { poser, protocol, wire, packets: Vec::new() }))
    }
}

struct Sender {
    poser: Poser,
    protocol: Box<dyn Protocol>,
    wire: Wire,
    packets: Vec<Vec<u8>>,
}

impl Sink for Sender {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        if let Event::Frame(frame) = event {
            let pose = self.poser.pose(frame);
            self.protocol.packets(&pose, &mut self.packets);
            for packet in self.packets.drain(..) {
                self.wire.send(&packet);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.wire.finish();
        Ok(())
    }
}

/// Makes poses of frames.
struct Poser {
    model: Arc<FaceModel>,
    mapping: Mapping,
    chooser: Chooser,
    rest: Rest,
    settings: Settings,
}

impl Poser {
    fn new(model: Arc<FaceModel>, settings: Settings) -> Self {
        let mapping = Mapping::new(&model.expressions);
        let (chooser, rest) = (Chooser::new(settings.choice), Rest::new(settings.rest));
        Self { model, mapping, chooser, rest, settings }
    }

    fn pose(&mut self, event: &FrameEvent) -> Pose {
        let image = event.frame.image();
        let size = [image.width as f32, image.height as f32];
        let face = self.chooser.choose(&event.result.faces, size);
        let seen = face.map(|face| (face.id, face.params.clone()));
        let seen = seen.map(|(id, params)| (id, self.mirrored(params, size)));
        let (presence, known) = self.rest.follow(seen, event.frame.pts, size);
        let (id, params) = known.unzip();
        let coefficients = match &params {
            Some(params) => pose::with_arkit_turns(self.mapping.coefficients(&params.expression)),
            None => [0.0; arkit::COUNT],
        };
        let ahead = [0.0, 0.0, USUAL_DISTANCE];
        Pose {
            presence,
            id: id.unwrap_or_default(),
            coefficients: self.settings.tuning.apply(&coefficients),
            rotation: params.as_ref().map_or_else(UnitQuaternion::identity, |p| p.rotation),
            position: params.as_ref().map_or(ahead, |params| position(params, size)),
            params,
            size,
            pts: event.frame.pts,
            time: event.frame.time,
        }
    }

    fn mirrored(&self, params: Params, [width, _]: [f32; 2]) -> Params {
        if !self.settings.mirror {
            return params;
        }
        let mut params = self.model.mirrored(params);
        params.t[0] = width - 1.0 - params.t[0];
        params
    }
}

#[cfg(test)]
mod tests;
