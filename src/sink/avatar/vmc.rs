//! The VMC protocol: OSC bundles over UDP, from a performer to an avatar's program.

use rosc::{OscBundle, OscMessage, OscPacket, OscTime, OscType, encoder};

use super::arkit;
use super::pose::{Presence, unity};
use super::{Pose, Protocol, vrm};

/// Port on which avatars' programs listen.
pub(super) const PORT: u16 = 39539;

/// Most bytes of a bundle, so that it stays in one packet of an ordinary network.
const LARGEST: usize = 1500;
/// Bytes of a bundle around its messages, and of a message's length.
const BUNDLE_HEAD: usize = 16;
const LENGTH: usize = 4;
/// "Now", by OSC's definition.
const NOW: OscTime = OscTime { seconds: 0, fractional: 1 };
/// Place of the head bone above its parent, metres: that of an ordinary avatar at rest. Receivers
/// that apply places would pull the head into the neck at 0.
const HEAD_BONE: [f32; 3] = [0.0, 0.09, 0.0];

/// Which shapes of an avatar are moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shapes {
    /// ARKit's 52.
    #[default]
    Arkit,
    /// Visemes, emotions and blinks by their names in VRM 0.x.
    Vrm0,
    /// The same by their names in VRM 1.0.
    Vrm1,
}

/// Sends a few bundles a frame, the last of which applies all.
#[derive(Debug)]
pub(super) struct Vmc {
    shapes: Shapes,
    /// Names of the shapes on the wire.
    names: Vec<String>,
}

impl Vmc {
    /// A sender of these shapes. `names` are those of ARKit's coefficients; the first letter is made
    /// large, as some receivers want it.
    #[must_use]
    pub(super) fn new(shapes: Shapes, names: &[String; arkit::COUNT]) -> Self {
        let vrm = |names: [&str; vrm::COUNT]| names.map(String::from).into();
        let names = match shapes {
            Shapes::Arkit => names.iter().map(|name| arkit::pascal(name)).collect(),
            Shapes::Vrm0 => vrm(vrm::VRM0),
            Shapes::Vrm1 => vrm(vrm::VRM1),
        };
        Self { shapes, names }
    }
}

fn message(address: &str, args: Vec<OscType>) -> OscMessage {
    OscMessage { addr: address.into(), args }
}

impl Vmc {
    fn messages(&self, pose: &Pose) -> Vec<OscMessage> {
        let seen = i32::from(pose.presence == Presence::Seen);
        let mut bone = vec![OscType::String("Head".into())];
        bone.extend(HEAD_BONE.iter().chain(&unity(&pose.rotation)).map(|v| OscType::Float(*v)));
        let mut all = vec![
            message("/VMC/Ext/OK", vec![OscType::Int(seen)]),
            message("/VMC/Ext/T", vec![OscType::Float(pose.pts as f32)]),
            message("/VMC/Ext/Bone/Pos", bone),
        ];
        let values: Vec<f32> = match self.shapes {
            Shapes::Arkit => pose.coefficients.into(),
            Shapes::Vrm0 | Shapes::Vrm1 => vrm::shapes(&pose.coefficients).into(),
        };
        all.extend(self.names.iter().zip(values).map(|(name, value)| {
            let args = vec![OscType::String(name.clone()), OscType::Float(value)];
            message("/VMC/Ext/Blend/Val", args)
        }));
        all.push(message("/VMC/Ext/Blend/Apply", vec![]));
        all
    }
}

impl Protocol for Vmc {
    fn packets(&mut self, pose: &Pose, out: &mut Vec<Vec<u8>>) {
        let mut bundle = OscBundle { timetag: NOW, content: Vec::new() };
        let mut bytes = BUNDLE_HEAD;
        let mut push = |bundle: OscBundle| {
            out.extend(encoder::encode(&OscPacket::Bundle(bundle)).ok());
        };
        for message in self.messages(pose) {
            let message = OscPacket::Message(message);
            let size = LENGTH + encoder::encode(&message).map_or(0, |bytes| bytes.len());
            if bytes + size > LARGEST {
                push(std::mem::replace(
                    &mut bundle,
                    OscBundle { timetag: NOW, content: Vec::new() },
                ));
                bytes = BUNDLE_HEAD;
            }
            bytes += size;
            bundle.content.push(message);
        }
        push(bundle);
    }
}

#[cfg(test)]
mod tests {
    use mmface::face::rotation;
    use nalgebra::{Quaternion, UnitQuaternion, Vector3};
    use rosc::decoder;

    use super::super::tests::{pose, standard_names};
    use super::*;

    fn received(names: &[String; arkit::COUNT], pose: &Pose) -> Vec<OscMessage> {
        let packets = packets(Shapes::Arkit, names, pose);
        assert!(packets.len() > 1, "2.5 kB do not fit into one");
        messages(packets)
    }

    fn packets(shapes: Shapes, names: &[String; arkit::COUNT], pose: &Pose) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        Vmc::new(shapes, names).packets(pose, &mut packets);
        packets
    }

    fn messages(packets: Vec<Vec<u8>>) -> Vec<OscMessage> {
        let mut all = Vec::new();
        for packet in packets {
            assert!(packet.len() <= LARGEST, "{} bytes", packet.len());
            let (rest, OscPacket::Bundle(bundle)) = decoder::decode_udp(&packet).expect("OSC")
            else {
                panic!("no bundle");
            };
            assert!(rest.is_empty());
            for content in bundle.content {
                let OscPacket::Message(message) = content else { panic!("a bundle in a bundle") };
                all.push(message);
            }
        }
        all
    }

    #[test]
    fn all_arrives_and_is_applied_last() {
        let mut pose = pose();
        pose.coefficients = std::array::from_fn(|at| at as f32 / 100.0);
        let all = received(&standard_names(), &pose);
        assert_eq!(all[0], message("/VMC/Ext/OK", vec![OscType::Int(1)]));
        assert_eq!(all.last().map(|m| m.addr.as_str()), Some("/VMC/Ext/Blend/Apply"));
        let values: Vec<_> = all.iter().filter(|m| m.addr == "/VMC/Ext/Blend/Val").collect();
        assert_eq!(values.len(), arkit::COUNT);
        for (at, value) in values.iter().enumerate() {
            let name = arkit::pascal(arkit::NAMES[at]);
            assert_eq!(value.args, [OscType::String(name), OscType::Float(pose.coefficients[at])]);
        }
        assert_eq!(values[0].args[0], OscType::String("EyeBlinkLeft".into()));
        let gone = received(&standard_names(), &Pose { presence: Presence::Gone, ..pose });
        assert_eq!(gone[0].args, [OscType::Int(0)]);
    }

    #[test]
    fn avatars_without_arkits_shapes_get_visemes_and_emotions() {
        let mut pose = pose();
        pose.coefficients[arkit::index("jawOpen").expect("a name")] = 0.8;
        pose.coefficients[arkit::index("eyeBlinkRight").expect("a name")] = 0.6;
        for (shapes, open, blink) in
            [(Shapes::Vrm0, "A", "Blink_R"), (Shapes::Vrm1, "aa", "blinkRight")]
        {
            let packets = packets(shapes, &standard_names(), &pose);
            assert_eq!(packets.len(), 1, "they fit into one");
            let all = messages(packets);
            let values: Vec<_> = all.iter().filter(|m| m.addr == "/VMC/Ext/Blend/Val").collect();
            assert_eq!(values.len(), vrm::COUNT);
            for (name, value) in [(open, 0.8), (blink, 0.6)] {
                let args = [OscType::String(name.into()), OscType::Float(value)];
                assert!(values.iter().any(|m| m.args == args), "{name}: {values:?}");
            }
            assert_eq!(all.last().map(|m| m.addr.as_str()), Some("/VMC/Ext/Blend/Apply"));
        }
    }

    #[test]
    fn the_head_bone_turns_as_the_head() {
        let mut pose = pose();
        pose.rotation = rotation::from_angles([10.0, -30.0, 5.0]);
        let all = received(&standard_names(), &pose);
        let bone = all.iter().find(|m| m.addr == "/VMC/Ext/Bone/Pos").expect("a bone");
        let floats: Vec<f32> = bone.args[1..].iter().filter_map(|a| a.clone().float()).collect();
        assert_eq!((&bone.args[0], floats.len()), (&OscType::String("Head".into()), 7));
        assert!(floats[1] > 0.0, "at its place");
        let [x, y, z, w] = floats[3..] else { panic!("four numbers") };
        let unity = UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z));
        // In Unity an avatar looks along +z with +x at its right: the nose goes to its left.
        let nose = unity * Vector3::z();
        assert!(nose.x < -0.4, "{nose}");
        let ours = pose.rotation * Vector3::z();
        assert!((nose - Vector3::new(-ours.x, ours.y, ours.z)).norm() < 1e-5);
    }

    #[test]
    fn long_names_make_more_bundles() {
        let names = std::array::from_fn(|at| format!("{at}{}", "x".repeat(200)));
        assert_eq!(received(&names, &pose()).len(), arkit::COUNT + 4);
    }
}
