//! Live Link Face, version 6: what Unreal's Live Link receives from Apple's phones.

use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::pose::{Presence, Side, eye, yaw_pitch_roll};
use super::{Pose, Protocol};

/// Unreal's default port.
pub(super) const PORT: u16 = 11111;

/// Frames a second of the time code, which counts from midnight UTC.
const RATE: i32 = 60;
/// Most bytes of the subject's name.
const LONGEST_NAME: usize = 64;
/// Number of values after the time code: ARKit's 52, and three angles for head and eyes.
const VALUES: u8 = 61;

/// Sends a packet a frame. Without a face it ends behind the time code.
#[derive(Debug)]
pub(super) struct LiveLink {
    /// Everything before the time code: version, device and subject.
    head: Vec<u8>,
}

impl LiveLink {
    /// A sender whose subject is called like the stream.
    #[must_use]
    pub(super) fn new(stream: &str) -> Self {
        let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '_' };
        let name: String = stream.chars().map(plain).take(LONGEST_NAME).collect();
        let device = device(stream);
        let mut head = vec![6];
        for text in [device.as_str(), name.as_str()] {
            head.extend((text.len() as i32).to_be_bytes());
            head.extend(text.as_bytes());
        }
        Self { head }
    }
}

/// The device's id has the form of a UUID. It depends on the stream's name alone, so that Unreal
/// knows it again.
fn device(stream: &str) -> String {
    let hash = Sha256::digest(stream.as_bytes());
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02X}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

impl Protocol for LiveLink {
    fn packets(&mut self, pose: &Pose, out: &mut Vec<Vec<u8>>) {
        let since = pose.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let frames = since % 86_400.0 * f64::from(RATE);
        let mut packet = self.head.clone();
        packet.extend((frames as i32).to_be_bytes());
        packet.extend((frames.fract() as f32).to_be_bytes());
        packet.extend(RATE.to_be_bytes());
        packet.extend(1_i32.to_be_bytes());
        if pose.presence == Presence::Seen {
            packet.push(VALUES);
            let head = yaw_pitch_roll(&pose.rotation);
            let eyes = [Side::Left, Side::Right].map(|side| {
                let [sideways, up] = eye(&pose.coefficients, side);
                [sideways, up, 0.0]
            });
            let angles = head.iter().chain(eyes.iter().flatten()).map(|angle| angle.to_radians());
            for value in pose.coefficients.iter().copied().chain(angles) {
                packet.extend(value.to_be_bytes());
            }
        }
        out.push(packet);
    }
}

#[cfg(test)]
mod tests {
    use mmface::face::rotation;
    use nalgebra::{UnitQuaternion, Vector3};

    use super::super::arkit;
    use super::super::tests::pose;
    use super::*;

    fn packet(pose: &Pose) -> Vec<u8> {
        let mut packets = Vec::new();
        LiveLink::new("anna").packets(pose, &mut packets);
        assert_eq!(packets.len(), 1);
        packets.pop().expect("a packet")
    }

    /// The values of a packet, if it has a face.
    fn values(packet: &[u8]) -> Option<Vec<f32>> {
        assert_eq!(packet[..5], [6, 0, 0, 0, 36]);
        assert_eq!(packet[41..49], *b"\0\0\0\x04anna");
        assert_eq!(packet[57..65], [0, 0, 0, 60, 0, 0, 0, 1]);
        let (count, values) = packet[65..].split_first()?;
        assert_eq!((*count, values.len()), (61, 4 * 61));
        Some(values.chunks_exact(4).map(|b| f32::from_be_bytes(b.try_into().expect("4"))).collect())
    }

    #[test]
    fn a_packet_has_the_coefficients_in_their_order() {
        let mut pose = pose();
        pose.coefficients = std::array::from_fn(|at| at as f32 / 100.0);
        let values = values(&packet(&pose)).expect("a face");
        assert_eq!(values[..arkit::COUNT], pose.coefficients);
        let text = device("anna");
        assert_eq!((text.len(), text.matches('-').count()), (36, 4));
        assert_ne!(text, device("ben"));
    }

    #[test]
    fn head_angles_give_the_rotation_back() {
        let mut pose = pose();
        pose.rotation = rotation::from_angles([10.0, -30.0, 5.0]);
        let values = values(&packet(&pose)).expect("a face");
        let about = |axis, angle| UnitQuaternion::from_axis_angle(&axis, angle);
        let back = about(Vector3::y_axis(), values[52])
            * about(Vector3::x_axis(), -values[53])
            * about(Vector3::z_axis(), values[54]);
        assert!(back.angle_to(&pose.rotation) < 1e-3);
    }

    #[test]
    fn without_a_face_it_ends_behind_the_rate() {
        let gone = Pose { presence: Presence::Gone, ..pose() };
        assert_eq!(values(&packet(&gone)), None);
    }

    #[test]
    fn long_and_foreign_names_are_made_to_fit() {
        let mut packets = Vec::new();
        LiveLink::new(&"ä".repeat(500)).packets(&pose(), &mut packets);
        assert_eq!(packets[0][41..45], 64_i32.to_be_bytes());
        assert_eq!(packets[0][45..109], [b'_'; 64]);
    }
}
