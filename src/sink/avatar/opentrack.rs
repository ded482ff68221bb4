//! opentrack's "UDP over network" tracker: six numbers.

use super::{Pose, Protocol, pose};

/// opentrack's default port.
pub(super) const PORT: u16 = 4242;

/// x, y, z in centimetres and yaw, pitch, roll in degrees, as f64 in little-endian order (that of
/// the machines it runs on). Axes and signs are those of opentrack's own face tracker: x to the
/// right in the picture, y up, z away from the camera; yaw to the head's own right, pitch up, roll
/// to its own left.
#[derive(Debug, Default)]
pub(super) struct OpenTrack;

impl Protocol for OpenTrack {
    fn packets(&mut self, pose: &Pose, out: &mut Vec<Vec<u8>>) {
        let [x, y, z] = pose.position;
        let [yaw, pitch, roll] = pose::yaw_pitch_roll(&pose.rotation);
        let numbers = [x, y, z, -yaw, pitch, -roll];
        out.push(numbers.iter().flat_map(|number| f64::from(*number).to_le_bytes()).collect());
    }
}

#[cfg(test)]
mod tests {
    use mmface::face::rotation;

    use super::super::tests::pose;
    use super::*;

    fn received(pose: &Pose) -> [f64; 6] {
        let mut packets = Vec::new();
        OpenTrack.packets(pose, &mut packets);
        let packet = packets.pop().expect("a packet");
        assert_eq!((packets.len(), packet.len()), (0, 48));
        let mut numbers =
            packet.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8")));
        std::array::from_fn(|_| numbers.next().expect("six"))
    }

    /// opentrack's neural tracker reads its angles off a matrix whose columns are the head's axes
    /// (ahead, up, to the head's right) in the camera's (towards it, up, left in the picture).
    #[test]
    fn signs_are_those_of_opentracks_own_tracker() {
        for angles in [[0.0, 25.0, 0.0], [20.0, 0.0, 0.0], [0.0, 0.0, 15.0]] {
            let mut pose = pose();
            pose.rotation = rotation::from_angles(angles);
            let r = rotation::matrix(&pose.rotation);
            let (ahead, up, right) = (r.column(2), r.column(1), -r.column(0));
            let yaw = (-ahead[0]).atan2(ahead[2]);
            let pitch = ahead[1].atan2(ahead[0].hypot(ahead[2]));
            let roll = up[0].atan2(-right[0]);
            let expected = [yaw, pitch, roll].map(|a| f64::from(a.to_degrees()));
            let seen = received(&pose);
            for (seen, expected) in seen[3..].iter().zip(expected) {
                assert!((seen - expected).abs() < 1e-3, "{angles:?}: {seen} for {expected}");
            }
        }
        let seen = received(&Pose { position: [1.0, 2.0, 70.0], ..pose() });
        assert_eq!(seen[..3], [1.0, 2.0, 70.0]);
    }
}
