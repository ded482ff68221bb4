//! Which face moves which of several avatars.

use mmface::Face;

/// Seconds for which a place is kept at least: as long as the tracker by default gives somebody who
/// comes back the same id.
const KEPT: f64 = 3.0;

/// A place for each avatar. Whoever has one keeps it.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// Seconds for which the place of a lost face is kept.
    kept: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Whose place it is.
    id: Option<u64>,
    /// When that face was seen last, seconds of the stream.
    seen: f64,
}

impl Slots {
    /// `count` places; the place of a lost face stays empty for `rest` seconds, and no less than
    /// three.
    pub(super) fn new(count: usize, rest: f64) -> Self {
        Self { slots: vec![Slot::default(); count], kept: rest.max(KEPT) }
    }

    /// The face in each place. Somebody new gets the first place that nobody has, or whose face has
    /// been gone for long enough; without such a place he waits.
    pub(super) fn assign<'a>(&mut self, faces: &'a [Face], pts: f64) -> Vec<Option<&'a Face>> {
        let find = |id: Option<u64>| faces.iter().find(|face| Some(face.id) == id);
        for slot in &mut self.slots {
            // A clock that jumps back is no time that goes by.
            if find(slot.id).is_some() || slot.seen > pts {
                slot.seen = pts;
            }
        }
        for face in faces {
            if self.slots.iter().any(|slot| slot.id == Some(face.id)) {
                continue;
            }
            let is_free = |slot: &&mut Slot| slot.id.is_none() || pts - slot.seen > self.kept;
            if let Some(slot) = self.slots.iter_mut().find(is_free) {
                *slot = Slot { id: Some(face.id), seen: pts };
            }
        }
        self.slots.iter().map(|slot| find(slot.id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use mmface::face::Params;

    use super::*;
    use crate::testing::face;

    fn assigned(slots: &mut Slots, ids: &[u64], pts: f64) -> Vec<Option<u64>> {
        let faces: Vec<_> = ids.iter().map(|id| face(*id, Params::neutral())).collect();
        slots.assign(&faces, pts).into_iter().map(|face| face.map(|face| face.id)).collect()
    }

    #[test]
    fn a_face_keeps_its_place() {
        let mut slots = Slots::new(3, 0.5);
        assert_eq!(assigned(&mut slots, &[5], 0.0), [Some(5), None, None]);
        assert_eq!(assigned(&mut slots, &[5, 7], 1.0), [Some(5), Some(7), None]);
        // The first leaves; the second stays where it is.
        assert_eq!(assigned(&mut slots, &[7], 2.0), [None, Some(7), None]);
        // Somebody new gets a place of his own, and the first finds his again.
        assert_eq!(assigned(&mut slots, &[7, 8], 3.0), [None, Some(7), Some(8)]);
        assert_eq!(assigned(&mut slots, &[5, 7, 8], 3.5), [Some(5), Some(7), Some(8)]);
    }

    #[test]
    fn a_place_is_given_away_when_its_face_is_gone_for_long() {
        let mut slots = Slots::new(1, 0.5);
        assert_eq!(assigned(&mut slots, &[1], 0.0), [Some(1)]);
        assert_eq!(assigned(&mut slots, &[2], 2.0), [None], "it is kept");
        assert_eq!(assigned(&mut slots, &[2], 3.5), [Some(2)]);
        assert_eq!(assigned(&mut slots, &[1, 2], 3.6), [Some(2)], "whoever comes late waits");
        let mut slow = Slots::new(1, 10.0);
        assigned(&mut slow, &[1], 0.0);
        assert_eq!(
            assigned(&mut slow, &[2], 9.0),
            [None],
            "its avatar is still on the way to rest"
        );
        assert_eq!(assigned(&mut slow, &[2], 11.0), [Some(2)]);
    }

    #[test]
    fn a_clock_that_jumps_back_frees_no_place_for_ever() {
        let mut slots = Slots::new(1, 0.5);
        assigned(&mut slots, &[1], 1000.0);
        assert_eq!(assigned(&mut slots, &[2], 0.0), [None]);
        assert_eq!(assigned(&mut slots, &[2], 4.0), [Some(2)]);
    }
}
