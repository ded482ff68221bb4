//! Which of several faces moves the avatar.

use mmface::Face;

/// `--avatar-face`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// The largest.
    #[default]
    Largest,
    /// The one nearest to the middle of the picture.
    Center,
    /// The one with this id.
    Id(u64),
}

/// Another face must be so much larger, or so much nearer to the middle, to take over. Without
/// this the avatar would jump between two people who sit side by side.
const CLEARLY: f32 = 1.3;

/// Keeps to a face.
#[derive(Debug, Default)]
pub struct Chooser {
    choice: Choice,
    /// Id of the face that was chosen last.
    current: Option<u64>,
}

impl Chooser {
    /// A chooser that has chosen nobody yet.
    #[must_use]
    pub fn new(choice: Choice) -> Self {
        Self { choice, current: None }
    }

    /// The face of this frame, if there is one.
    pub fn choose<'a>(&mut self, faces: &'a [Face], size: [f32; 2]) -> Option<&'a Face> {
        if let Choice::Id(id) = self.choice {
            return faces.iter().find(|face| face.id == id);
        }
        let merit = |face: &Face| self.merit(face, size);
        let best = faces.iter().max_by(|a, b| merit(a).total_cmp(&merit(b)))?;
        let chosen = match faces.iter().find(|face| Some(face.id) == self.current) {
            Some(current) if merit(best) < merit(current) * CLEARLY => current,
            _ => best,
        };
        self.current = Some(chosen.id);
        Some(chosen)
    }

    /// The larger, the better.
    fn merit(&self, face: &Face, [width, height]: [f32; 2]) -> f32 {
        let [x, y, w, h] = face.bounds;
        match self.choice {
            Choice::Center => {
                let away = (x + w / 2.0 - width / 2.0).hypot(y + h / 2.0 - height / 2.0);
                // A tenth of the picture's width is as good as the middle itself.
                1.0 / away.max(width / 10.0).max(1.0)
            }
            Choice::Largest | Choice::Id(_) => (w * h).max(0.0).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use mmface::face::Params;

    use super::*;

    fn face(id: u64, bounds: [f32; 4]) -> Face {
        let params = Params::neutral();
        let raw = params.clone();
        Face {
            id,
            confidence: 1.0,
            bounds,
            params,
            raw,
            landmarks: vec![],
            gaze: None,
            volume: None,
        }
    }

    fn chosen(chooser: &mut Chooser, faces: &[(u64, [f32; 4])]) -> Option<u64> {
        let faces: Vec<_> = faces.iter().map(|&(id, bounds)| face(id, bounds)).collect();
        chooser.choose(&faces, [640.0, 360.0]).map(|face| face.id)
    }

    #[test]
    fn the_largest_stays_until_another_is_clearly_larger() {
        let mut chooser = Chooser::new(Choice::Largest);
        let of = |size: f32| [0.0, 0.0, size, size];
        assert_eq!(chosen(&mut chooser, &[]), None);
        assert_eq!(chosen(&mut chooser, &[(1, of(100.0)), (2, of(90.0))]), Some(1));
        assert_eq!(chosen(&mut chooser, &[(1, of(100.0)), (2, of(125.0))]), Some(1));
        assert_eq!(chosen(&mut chooser, &[(1, of(100.0)), (2, of(135.0))]), Some(2));
        assert_eq!(chosen(&mut chooser, &[(1, of(120.0)), (2, of(100.0))]), Some(2));
        assert_eq!(chosen(&mut chooser, &[(1, of(120.0))]), Some(1));
    }

    #[test]
    fn the_middle_and_a_given_id() {
        let at = |x: f32| [x - 50.0, 130.0, 100.0, 100.0];
        let mut middle = Chooser::new(Choice::Center);
        assert_eq!(chosen(&mut middle, &[(1, at(100.0)), (2, at(330.0))]), Some(2));
        assert_eq!(chosen(&mut middle, &[(1, at(310.0)), (2, at(340.0))]), Some(2));
        assert_eq!(chosen(&mut middle, &[(1, at(320.0)), (2, at(500.0))]), Some(1));
        let mut third = Chooser::new(Choice::Id(3));
        assert_eq!(chosen(&mut third, &[(1, at(320.0)), (3, at(500.0))]), Some(3));
        assert_eq!(chosen(&mut third, &[(1, at(320.0))]), None);
    }
}
