//! What becomes of the pose when the face is lost: it is held for a moment, then eased to rest.

use mmface::face::Params;

use super::pose::Presence;

/// Seconds for which the last pose is held. The tracker itself has held the face for 0.45 s before.
const HOLD: f64 = 0.2;
/// A longer step of time between two frames counts as this, so that a stall of the source is no
/// lost face.
const LONGEST_STEP: f64 = 0.5;

/// Follows the face of the avatar through losses.
#[derive(Debug)]
pub(super) struct Rest {
    /// Seconds that the way to rest takes.
    seconds: f64,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    id: u64,
    params: Params,
    /// Time stamp of the last frame.
    pts: f64,
    /// Seconds since the face was seen.
    missing: f64,
}

impl Rest {
    /// Eases lost faces to rest over `seconds`.
    #[must_use]
    pub(super) fn new(seconds: f64) -> Self {
        Self { seconds, last: None }
    }

    /// The pose of a frame at `pts` with this face, if the face is there: its id and parameters. The
    /// frame's size in pixels says where the middle is, to which a lost face returns.
    pub(super) fn follow(
        &mut self,
        seen: Option<(u64, Params)>,
        pts: f64,
        size: [f32; 2],
    ) -> (Presence, Option<(u64, Params)>) {
        if let Some((id, params)) = seen {
            self.last = Some(Last { id, params: params.clone(), pts, missing: 0.0 });
            return (Presence::Seen, Some((id, params)));
        }
        let Some(last) = &mut self.last else {
            return (Presence::Gone, None);
        };
        last.missing += (pts - last.pts).clamp(0.0, LONGEST_STEP);
        last.pts = pts;
        let way = ((last.missing - HOLD) / self.seconds.max(1e-3)).clamp(0.0, 1.0) as f32;
        let presence = if way < 1.0 { Presence::Seen } else { Presence::Gone };
        (presence, Some((last.id, towards_rest(&last.params, smooth_step(way), size))))
    }
}

/// Starts and ends without a jerk.
fn smooth_step(way: f32) -> f32 {
    way * way * (3.0 - 2.0 * way)
}

/// Part of the way from a pose to rest: a neutral face that looks straight ahead from the middle of
/// the picture.
fn towards_rest(params: &Params, way: f32, [width, height]: [f32; 2]) -> Params {
    let left = 1.0 - way;
    let mut params = params.clone();
    params.rotation = params.rotation.powf(left);
    params.expression.iter_mut().for_each(|value| *value *= left);
    for (place, size) in params.t.iter_mut().zip([width, height]) {
        let middle = (size - 1.0) / 2.0;
        *place = middle + (*place - middle) * left;
    }
    params
}

#[cfg(test)]
mod tests {
    use mmface::face::rotation;

    use super::*;

    fn turned() -> Params {
        Params {
            rotation: rotation::from_angles([5.0, -40.0, 10.0]),
            expression: vec![0.8, 0.4],
            t: [100.0, 50.0, 0.0],
            ..Params::neutral()
        }
    }

    #[test]
    fn a_lost_face_is_held_and_then_rests() {
        let size = [201.0, 201.0];
        let mut rest = Rest::new(0.5);
        assert_eq!(rest.follow(None, 0.0, size), (Presence::Gone, None));
        assert_eq!(rest.follow(Some((7, turned())), 1.0, size).0, Presence::Seen);
        let held = rest.follow(None, 1.1, size);
        assert_eq!(held, (Presence::Seen, Some((7, towards_rest(&turned(), 0.0, size)))));
        let mut yaw = 40.0;
        for step in 1..=5 {
            let (presence, Some((7, params))) =
                rest.follow(None, 1.2 + 0.099 * f64::from(step), size)
            else {
                panic!("the face is known");
            };
            assert_eq!(presence, Presence::Seen);
            let now = -rotation::to_angles(&params.rotation)[1];
            assert!(now < yaw && now > 0.0, "{now} after {yaw}");
            yaw = now;
        }
        let (presence, Some((_, params))) = rest.follow(None, 1.75, size) else {
            panic!("the face is known");
        };
        assert_eq!(
            (presence, params.expression, params.t),
            (Presence::Gone, vec![0.0; 2], [100.0, 100.0, 0.0])
        );
        assert!(params.rotation.angle() < 1e-3);
        // Back at once.
        assert_eq!(rest.follow(Some((7, turned())), 1.8, size).1, Some((7, turned())));
    }

    #[test]
    fn a_stall_of_the_source_is_no_lost_face() {
        let mut rest = Rest::new(2.0);
        rest.follow(Some((1, turned())), 0.0, [9.0, 9.0]);
        assert_eq!(rest.follow(None, 100.0, [9.0, 9.0]).0, Presence::Seen);
        // A clock that jumps back does not count either.
        assert_eq!(rest.follow(None, 1.0, [9.0, 9.0]).0, Presence::Seen);
    }
}
