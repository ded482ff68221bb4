//! iFacialMocap's first protocol: a line of text a frame.

use std::fmt::Write;

use super::arkit;
use super::pose::{Presence, Side, eye, yaw_pitch_roll};
use super::{Pose, Protocol};

/// iFacialMocap's port.
pub(super) const PORT: u16 = 49983;

/// Sends a packet a frame. Receivers take two equal packets in a row as a lost face, so that there
/// are none while a face is seen, and all are equal when there is none.
#[derive(Debug)]
pub(super) struct IFacialMocap {
    /// Names of the coefficients on the wire.
    names: Vec<String>,
    last: String,
    /// Whether the last packet was changed to differ from the one before.
    nudged: bool,
}

impl IFacialMocap {
    /// A sender with these names, which are those of [`arkit::NAMES`] if the user renames none.
    #[must_use]
    pub(super) fn new(names: &[String; arkit::COUNT]) -> Self {
        let names = names.iter().map(|name| short(name)).collect();
        Self { names, last: String::new(), nudged: false }
    }

    fn text(&self, pose: &Pose, nudge: f32) -> String {
        let mut text = String::with_capacity(1400);
        for (name, value) in self.names.iter().zip(pose.coefficients) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{name}-{}|", (value * 100.0).round() as i32);
        }
        let [yaw, pitch, roll] = yaw_pitch_roll(&pose.rotation);
        // Metres, from the camera that looks along −z.
        let [x, y, z] = pose.position.map(|centimetres| centimetres / 100.0);
        let z = nudge - z;
        let _ = write!(text, "=head#{:.4},{yaw:.4},{roll:.4},{x:.5},{y:.5},{z:.5}|", -pitch);
        for (name, side) in [("rightEye", Side::Right), ("leftEye", Side::Left)] {
            let [sideways, up] = eye(&pose.coefficients, side);
            let _ = write!(text, "{name}#{:.4},{sideways:.4},0.0000|", -up);
        }
        text
    }
}

/// `eyeBlinkLeft` is `eyeBlink_L` here. Where left and right are directions and not sides, the name
/// stays.
fn short(name: &str) -> String {
    if ["jawLeft", "jawRight", "mouthLeft", "mouthRight"].contains(&name) {
        return name.into();
    }
    let side =
        |suffix, letter: &str| name.strip_suffix(suffix).map(|stem| format!("{stem}{letter}"));
    side("Left", "_L").or_else(|| side("Right", "_R")).unwrap_or_else(|| name.into())
}

/// A change of the head's place that no one can see: a tenth of a millimetre.
const NUDGE: f32 = 1e-4;

impl Protocol for IFacialMocap {
    fn packets(&mut self, pose: &Pose, out: &mut Vec<Vec<u8>>) {
        let nudge = |is: bool| if is { NUDGE } else { 0.0 };
        let mut text = self.text(pose, nudge(self.nudged));
        if text == self.last && pose.presence == Presence::Seen {
            self.nudged = !self.nudged;
            text = self.text(pose, nudge(self.nudged));
        }
        out.push(text.clone().into_bytes());
        self.last = text;
    }
}

#[cfg(test)]
mod tests {
    use mmface::face::rotation;
    use nalgebra::{UnitQuaternion, Vector3};

    use super::super::tests::{pose, standard_names};
    use super::*;

    fn sender() -> IFacialMocap {
        IFacialMocap::new(&standard_names())
    }

    fn packet(sender: &mut IFacialMocap, pose: &Pose) -> String {
        let mut packets = Vec::new();
        sender.packets(pose, &mut packets);
        assert_eq!(packets.len(), 1);
        String::from_utf8(packets.remove(0)).expect("text")
    }

    #[test]
    fn a_reader_not_written_here_understands_it() {
        let mut pose = pose();
        for (name, value) in [("eyeBlinkLeft", 0.734), ("jawLeft", 0.2), ("mouthSmileRight", 1.0)] {
            pose.coefficients[arkit::index(name).expect("a name")] = value;
        }
        pose.coefficients[arkit::index("eyeLookInRight").expect("a name")] = 0.1;
        pose.rotation = rotation::from_angles([10.0, -30.0, 5.0]);
        pose.position = [10.0, -5.0, 66.0];
        let text = packet(&mut sender(), &pose);
        assert_eq!(text.matches('=').count(), 1);
        assert!(text.ends_with('|') && text.len() < 1500, "{} bytes", text.len());
        let read = ifacialmocap::Value::parse_str_lossy(text.replace("|=", "|")).expect("readable");
        let of = |name: &str| read.int_keys.get(name).copied();
        assert_eq!(read.int_keys.len(), arkit::COUNT);
        assert_eq!(of("eyeBlink_L"), Some(73));
        assert_eq!(
            (of("jawLeft"), of("mouthSmile_R"), of("tongueOut")),
            (Some(20), Some(100), Some(0))
        );
        let ([x, y, z], place) = read.coord_keys["head"];
        assert_eq!(place, [0.1, -0.05, -0.66]);
        let about =
            |axis, degrees: f32| UnitQuaternion::from_axis_angle(&axis, degrees.to_radians());
        let back =
            about(Vector3::y_axis(), y) * about(Vector3::x_axis(), x) * about(Vector3::z_axis(), z);
        assert!(back.angle_to(&pose.rotation) < 1e-3);
        // VMagicMirror: the right eye looks inwards where y is positive.
        assert_eq!(read.xyz_keys["rightEye"][1], 4.0);
    }

    #[test]
    fn no_two_packets_in_a_row_are_equal_while_a_face_is_seen() {
        let mut sender = sender();
        let mut last = String::new();
        for _ in 0..9 {
            let text = packet(&mut sender, &pose());
            assert_ne!(text, last);
            last = text;
        }
        let gone = Pose { presence: Presence::Gone, ..pose() };
        packet(&mut sender, &gone);
        assert_eq!(packet(&mut sender, &gone), packet(&mut sender, &gone));
    }
}
