//! Avatars: sends each frame's head pose and coefficients to programs that move avatars.
//!
//! All senders share what lies between the faces of a frame and a [`Pose`]: which face
//! (`choose`), the mirror, what becomes of a lost face (`rest`), ARKit's coefficients
//! ([`arkit`]) and the user's curves ([`tune`]). A `Link` takes the pose to a receiver: mostly a
//! [`Protocol`] that turns it into packets, and a [`wire`] that sends them.

pub mod arkit;
pub mod choose;
mod defaults;
mod ifacialmocap;
mod live_link;
mod openseeface;
mod opentrack;
pub mod pose;
mod rest;
mod slots;
pub mod tune;
mod vmc;
mod vrm;
pub mod vts;
pub mod wire;

use std::ops::ControlFlow;
use std::sync::Arc;

use mmface::Face;
use mmface::face::{FaceModel, Params};
use mmface::smooth::Predictor;
use nalgebra::UnitQuaternion;

use self::arkit::Mapping;
use self::choose::{Choice, Chooser};
use self::pose::Pose;
use self::rest::Rest;
use self::slots::Slots;
use self::tune::Tuning;
pub use self::vmc::Shapes;
use self::wire::{Address, Wire};
use super::{Context, Event, FrameEvent, Plan, Sink, WhenSlow};
use crate::Result;
use crate::counters::SinkCounters;
use crate::place::{USUAL_DISTANCE, position};

/// The way to a receiver. Nothing in it ever waits.
trait Link: Send {
    /// Sends a frame.
    fn send(&mut self, pose: &Pose);

    /// Sends and counts what is not yet.
    fn finish(self: Box<Self>);
}

/// A protocol of avatars' programs that sends packets and gets no answers.
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
    /// `--vts`.
    VTubeStudio,
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
            Self::VTubeStudio => "vts",
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
            Self::VTubeStudio => vts::PORT,
        }
    }

    /// The way to the receiver at this address.
    fn link(
        self,
        address: Address,
        settings: &Settings,
        context: &Context,
    ) -> Result<Box<dyn Link>> {
        let counters = context.counters.sink(self.name());
        let Some(protocol) = self.protocol(settings, context) else {
            return Ok(Box::new(vts::Vts::start(address, settings.vts.clone(), counters)?));
        };
        let wire = Wire::new(address, counters);
        Ok(Box::new(Datagrams { protocol, wire, packets: Vec::new() }))
    }

    /// The protocol, if it is one that gets no answers.
    fn protocol(self, settings: &Settings, context: &Context) -> Option<Box<dyn Protocol>> {
        let names = &settings.tuning.names;
        Some(match self {
            Self::Vmc => Box::new(vmc::Vmc::new(settings.shapes, names)),
            Self::LiveLink => Box::new(live_link::LiveLink::new(&context.stream)),
            Self::IFacialMocap => Box::new(ifacialmocap::IFacialMocap::new(names)),
            Self::OpenSeeFace => Box::new(openseeface::OpenSeeFace::new(context.model.clone())),
            Self::OpenTrack => Box::new(opentrack::OpenTrack),
            Self::VTubeStudio => return None,
        })
    }
}

/// Packets of a protocol over UDP.
struct Datagrams {
    protocol: Box<dyn Protocol>,
    wire: Wire,
    packets: Vec<Vec<u8>>,
}

impl Link for Datagrams {
    fn send(&mut self, pose: &Pose) {
        self.protocol.packets(pose, &mut self.packets);
        for packet in self.packets.drain(..) {
            self.wire.send(&packet);
        }
    }

    fn finish(self: Box<Self>) {
        self.wire.finish();
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
    /// Seconds by which the head's motion is continued, to make up for a latency.
    pub predict: f32,
    /// Which shapes the VMC protocol moves.
    pub shapes: Shapes,
    /// What is special about VTube Studio.
    pub vts: vts::Options,
}

/// Seconds over which a lost face goes to rest, unless the user says otherwise.
pub const REST: f64 = 0.5;

impl Default for Settings {
    fn default() -> Self {
        Self {
            choice: Choice::Largest,
            rest: REST,
            mirror: false,
            tuning: Arc::default(),
            predict: 0.0,
            shapes: Shapes::default(),
            vts: vts::Options::default(),
        }
    }
}

/// A sink that moves an avatar.
#[derive(Debug)]
pub struct Avatar {
    /// Its protocol.
    pub kind: Kind,
    /// Where the packets go.
    pub address: Address,
    /// Several faces move an avatar each: the first at the address, the others at the ports behind
    /// it. `None`: one face is chosen.
    pub faces: Option<usize>,
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
        let Self { kind, address, faces, settings } = *self;
        let who = match faces {
            None => Who::Chosen(Chooser::new(settings.choice)),
            Some(count) => Who::Each(Slots::new(count, settings.rest)),
        };
        let count = faces.map_or(1, |count| u16::try_from(count).unwrap_or(u16::MAX));
        let last = address.port.saturating_add(count - 1);
        let receiver = if count > 1 { format!("{address} to {last}") } else { address.to_string() };
        let lane = |port| {
            let address = Address { port, ..address.clone() };
            let link = kind.link(address, &settings, context)?;
            Ok(Lane { poser: Poser::new(context.model.clone(), settings.clone()), link })
        };
        let lanes = (address.port..=last).map(lane).collect::<Result<_>>()?;
        let counters = context.counters.sink(kind.name());
        Ok(Box::new(Sender { who, lanes, counters, receiver }))
    }
}

/// Whose faces are sent.
enum Who {
    /// One of them.
    Chosen(Chooser),
    /// Each of them, to a receiver of its own.
    Each(Slots),
}

struct Sender {
    who: Who,
    lanes: Vec<Lane>,
    counters: Arc<SinkCounters>,
    /// The receivers, for the log.
    receiver: String,
}

/// The way of one face to one receiver.
struct Lane {
    poser: Poser,
    link: Box<dyn Link>,
}

impl Sink for Sender {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        let Event::Frame(event) = event else { return Ok(ControlFlow::Continue(())) };
        let faces = &event.result.faces;
        let faces = match &mut self.who {
            Who::Chosen(chooser) => vec![chooser.choose(faces, size_of(event))],
            Who::Each(slots) => slots.assign(faces, event.frame.pts),
        };
        for (lane, face) in self.lanes.iter_mut().zip(faces) {
            let pose = lane.poser.pose(event, face);
            lane.link.send(&pose);
        }
        self.counters.packet_after(event.frame.arrived.elapsed().as_secs_f64() * 1e3);
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.lanes.into_iter().for_each(|lane| lane.link.finish());
        self.counters.log_packets(&self.receiver);
        Ok(())
    }
}

/// Width and height of a frame in pixels.
fn size_of(event: &FrameEvent) -> [f32; 2] {
    let image = event.frame.image();
    [image.width as f32, image.height as f32]
}

/// Makes poses of frames.
struct Poser {
    model: Arc<FaceModel>,
    mapping: Mapping,
    predictor: Predictor,
    rest: Rest,
    settings: Settings,
}

impl Poser {
    fn new(model: Arc<FaceModel>, settings: Settings) -> Self {
        let mapping = Mapping::new(&model.expressions);
        let (predictor, rest) = (Predictor::new(settings.predict), Rest::new(settings.rest));
        Self { model, mapping, predictor, rest, settings }
    }

    /// The pose of a frame with this face, if the face is there.
    fn pose(&mut self, event: &FrameEvent, face: Option<&Face>) -> Pose {
        let (size, pts) = (size_of(event), event.frame.pts);
        let seen = face.map(|face| {
            let params = event.relative(face).clone();
            let ahead = self.predictor.apply(face.id, pts, params);
            (face.id, self.mirrored(ahead, size))
        });
        let (presence, known) = self.rest.follow(seen, pts, size);
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
            pts,
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
