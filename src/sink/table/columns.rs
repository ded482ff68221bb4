//! The columns of a table, and the rows that a frame becomes.

use mmface::record::{Dropped, FaceRecord, Frame, Header, rounded};

/// Landmarks of a face.
const LANDMARKS: usize = 68;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Whole,
    /// A number with six digits behind the point: a time in seconds.
    Seconds,
    /// A number with the digits of the records.
    Number,
    /// Words.
    Text,
    /// A moment: milliseconds since 1970, UTC.
    Moment,
}

/// One value of a row. Empty where there is nothing to say, for example about a face where there
/// is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Empty,
    /// Of a column of [`Kind::Whole`].
    Whole(i64),
    /// Of a column of [`Kind::Seconds`] or [`Kind::Number`].
    Number(f64),
    /// Of a column of [`Kind::Text`]; of [`Kind::Moment`] in RFC 3339.
    Text(String),
}

/// Optional groups of columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Groups {
    /// The 68 landmarks in 2D and 3D.
    pub landmarks: bool,
    /// The parameters before smoothing.
    pub raw: bool,
}

impl Groups {
    /// The groups that a face of existing records has.
    #[must_use]
    pub fn of(face: &FaceRecord) -> Self {
        Self {
            landmarks: face.landmarks.is_some() && face.landmarks3d.is_some(),
            raw: face.raw.is_some(),
        }
    }
}

/// The columns of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns {
    groups: Groups,
    /// Whether the pose in camera space is known.
    lens: bool,
    identity: usize,
    expressions: Vec<String>,
    all: Vec<(String, Kind)>,
}

impl Columns {
    /// The columns for records with such a header.
    #[must_use]
    pub fn new(header: &Header, groups: Groups) -> Self {
        let model = &header.face_model;
        let (identity, expressions) = (model.identity, model.expressions.clone());
        let lens = header.lens.is_some();
        let mut columns = Self { groups, lens, identity, expressions, all: Vec::new() };
        columns.add_openface();
        columns.add_own();
        columns
    }

    /// Name and kind of each column, in order.
    #[must_use]
    pub fn all(&self) -> &[(String, Kind)] {
        &self.all
    }

    /// Whether records with this header have the same columns.
    #[must_use]
    pub fn fit(&self, header: &Header) -> bool {
        let model = &header.face_model;
        self.identity == model.identity && self.expressions == model.expressions
    }

    fn add<T: Into<String>>(&mut self, kind: Kind, names: impl IntoIterator<Item = T>) {
        self.all.extend(names.into_iter().map(|name| (name.into(), kind)));
    }

    fn add_numbered(&mut self, prefix: &str, count: usize) {
        self.add(Kind::Number, (0..count).map(|i| format!("{prefix}{i}")));
    }

    /// Columns that OpenFace 2.2 has too, under its names, with its units and signs.
    fn add_openface(&mut self) {
        self.add(Kind::Whole, ["frame", "face_id"]);
        self.add(Kind::Seconds, ["timestamp"]);
        self.add(Kind::Number, ["confidence"]);
        self.add(Kind::Whole, ["success"]);
        for eye in ["gaze_0", "gaze_1"] {
            self.add(Kind::Number, ["x", "y", "z"].map(|axis| format!("{eye}_{axis}")));
        }
        self.add(Kind::Number, ["gaze_angle_x", "gaze_angle_y"]);
        if self.lens {
            self.add(Kind::Number, ["pose_Tx", "pose_Ty", "pose_Tz"]);
        }
        self.add(Kind::Number, ["pose_Rx", "pose_Ry", "pose_Rz"]);
        if self.groups.landmarks {
            self.add_numbered("x_", LANDMARKS);
            self.add_numbered("y_", LANDMARKS);
        }
        self.add(Kind::Number, ["p_scale", "p_rx", "p_ry", "p_rz", "p_tx", "p_ty"]);
    }

    fn add_own(&mut self) {
        self.add(Kind::Text, ["stream", "file"]);
        self.add(Kind::Moment, ["time", "camera_time"]);
        self.add(Kind::Whole, ["dropped"]);
        self.add(Kind::Number, ["box_x", "box_y", "box_width", "box_height"]);
        self.add(Kind::Number, ["f", "pitch", "yaw", "roll", "q_w", "q_x", "q_y", "q_z"]);
        self.add(Kind::Number, ["t_x", "t_y", "t_z"]);
        self.add(Kind::Number, ["gaze_confidence", "gaze_pitch", "gaze_yaw"]);
        for eye in ["left", "right"] {
            self.add(Kind::Number, ["x", "y"].map(|axis| format!("iris_{eye}_{axis}")));
        }
        self.add(Kind::Number, self.expressions.clone());
        self.add_numbered("identity_", self.identity);
        if self.groups.landmarks {
            for axis in ["x", "y", "z"] {
                self.add_numbered(&format!("landmarks3d_{axis}_"), LANDMARKS);
            }
        }
        if self.groups.raw {
            let names = ["f", "pitch", "yaw", "roll", "t_x", "t_y", "t_z"];
            self.add(Kind::Number, names.map(|name| format!("raw_{name}")));
            let names = self.expressions.iter().map(|name| format!("raw_{name}"));
            self.add(Kind::Number, names.collect::<Vec<_>>());
            self.add_numbered("raw_identity_", self.identity);
        }
    }

    /// The rows of a frame: one for each face, or a single one with `success` 0.
    #[must_use]
    pub fn rows(&self, frame: &Frame) -> Vec<Vec<Cell>> {
        if frame.faces.is_empty() {
            return vec![self.row(frame, None)];
        }
        frame.faces.iter().map(|face| self.row(frame, Some(face))).collect()
    }

    fn row(&self, frame: &Frame, face: Option<&FaceRecord>) -> Vec<Cell> {
        let mut row = Row(Vec::with_capacity(self.all.len()));
        self.openface(&mut row, frame, face);
        self.own(&mut row, frame, face);
        debug_assert_eq!(row.0.len(), self.all.len());
        row.0
    }

    fn openface(&self, row: &mut Row, frame: &Frame, face: Option<&FaceRecord>) {
        // OpenFace counts frames from 1.
        row.whole(Some(signed(frame.frame).saturating_add(1)));
        row.whole(face.map(|face| signed(face.id)));
        row.0.push(Cell::Number(fine(frame.pts)));
        row.numbers(
            1,
            Some(face.map_or(&[0.0][..], |face| std::slice::from_ref(&face.confidence))),
        );
        row.whole(Some(i64::from(face.is_some())));
        let gaze = face.and_then(|face| face.gaze);
        // Its first eye is the one on the left of the picture.
        for look in [gaze.map(|gaze| gaze.right), gaze.map(|gaze| gaze.left)] {
            row.doubles(3, look.map(|look| openface_axes(look.direction)));
        }
        row.doubles(2, gaze.map(|gaze| openface_angles(gaze.both.direction)));
        let angles = face.map(|face| radians(face.r));
        let camera = face.and_then(|face| face.camera);
        if self.lens {
            row.doubles(3, camera.map(|camera| openface_place(camera.t)));
        }
        row.doubles(3, camera.map(|camera| radians(camera.r)).or(angles));
        if self.groups.landmarks {
            for axis in 0..2 {
                row.axis(face.and_then(|face| face.landmarks.as_deref()), axis);
            }
        }
        // OpenFace's unit is a millimetre, that of our face model a centimetre.
        row.doubles(1, face.map(|face| [fine(number(face.f) / 10.0)]));
        row.doubles(3, angles);
        row.numbers(2, face.map(|face| &face.t[..2]));
    }

    fn own(&self, row: &mut Row, frame: &Frame, face: Option<&FaceRecord>) {
        row.0.push(Cell::Text(frame.stream.clone()));
        row.text(frame.file.as_ref());
        row.text(Some(&frame.time));
        row.text(frame.camera_time.as_ref());
        let Dropped { busy, damaged, lost, idle, skipped } = frame.dropped;
        let dropped = [busy, damaged, lost, idle, skipped].map(signed);
        row.whole(Some(dropped.into_iter().fold(0, i64::saturating_add)));
        row.numbers(4, face.map(|face| &face.bounds[..]));
        row.numbers(1, face.map(|face| std::slice::from_ref(&face.f)));
        row.numbers(3, face.map(|face| &face.r[..]));
        row.numbers(4, face.map(|face| &face.q[..]));
        row.numbers(3, face.map(|face| &face.t[..]));
        let gaze = face.and_then(|face| face.gaze.as_ref());
        row.numbers(1, gaze.map(|gaze| std::slice::from_ref(&gaze.both.confidence)));
        row.numbers(2, gaze.map(|gaze| &gaze.both.angles[..]));
        for look in [gaze.map(|gaze| &gaze.left), gaze.map(|gaze| &gaze.right)] {
            row.numbers(2, look.and_then(|look| look.iris.as_ref()).map(|iris| &iris[..]));
        }
        row.numbers(self.expressions.len(), face.map(|face| &face.expression[..]));
        row.numbers(self.identity, face.map(|face| &face.identity[..]));
        if self.groups.landmarks {
            for axis in 0..3 {
                row.axis(face.and_then(|face| face.landmarks3d.as_deref()), axis);
            }
        }
        if self.groups.raw {
            let raw = face.and_then(|face| face.raw.as_ref());
            row.numbers(1, raw.map(|raw| std::slice::from_ref(&raw.f)));
            row.numbers(3, raw.map(|raw| &raw.r[..]));
            row.numbers(3, raw.map(|raw| &raw.t[..]));
            row.numbers(self.expressions.len(), raw.map(|raw| &raw.expression[..]));
            row.numbers(self.identity, raw.map(|raw| &raw.identity[..]));
        }
    }
}

/// A row that grows. Records of somebody else may hold lists of any length: what is missing is
/// empty, what is too much is left out.
struct Row(Vec<Cell>);

impl Row {
    fn whole(&mut self, value: Option<i64>) {
        self.0.push(value.map_or(Cell::Empty, Cell::Whole));
    }

    fn text(&mut self, value: Option<&String>) {
        self.0.push(value.map_or(Cell::Empty, |text| Cell::Text(text.clone())));
    }

    /// Numbers that are used as they are.
    fn doubles<const N: usize>(&mut self, count: usize, values: Option<[f64; N]>) {
        let values = values.iter().flatten().map(|v| Cell::Number(*v));
        self.0.extend(values.chain(std::iter::repeat(Cell::Empty)).take(count));
    }

    /// Numbers with the digits of the records.
    fn numbers(&mut self, count: usize, values: Option<&[f32]>) {
        let values = values.unwrap_or_default().iter().map(|v| Cell::Number(number(*v)));
        self.0.extend(values.chain(std::iter::repeat(Cell::Empty)).take(count));
    }

    /// One coordinate of each landmark.
    fn axis<const N: usize>(&mut self, points: Option<&[[f32; N]]>, axis: usize) {
        let values = points
            .unwrap_or_default()
            .iter()
            .map(|point| point.get(axis).map_or(Cell::Empty, |value| Cell::Number(number(*value))));
        self.0.extend(values.chain(std::iter::repeat(Cell::Empty)).take(LANDMARKS));
    }
}

fn number(value: f32) -> f64 {
    rounded(f64::from(value))
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// OpenFace's (Rx, Ry, Rz) of [pitch, yaw, roll] in degrees: radians, with its sign of the pitch.
fn radians([pitch, yaw, roll]: [f32; 3]) -> [f64; 3] {
    [-number(pitch), number(yaw), number(roll)].map(|v| fine(v.to_radians()))
}

/// A direction in OpenFace's axes: x right, y down, z away from the camera.
fn openface_axes([x, y, z]: [f32; 3]) -> [f64; 3] {
    [x, -y, -z].map(|v| fine(number(v)))
}

/// A place in OpenFace's axes and millimetres, from centimetres.
fn openface_place([x, y, z]: [f32; 3]) -> [f64; 3] {
    [x, -y, -z].map(|v| fine(10.0 * number(v)))
}

/// OpenFace's `gaze_angle_x` and `gaze_angle_y` in radians: positive to the right of the picture, and
/// down.
fn openface_angles([x, y, z]: [f32; 3]) -> [f64; 2] {
    let [x, y, z] = [x, y, z].map(number);
    [x.atan2(z), (-y).atan2(z)].map(fine)
}

/// Rounds to six decimals. Adding 0 turns −0 into 0.
fn fine(value: f64) -> f64 {
    (value * 1e6).round() / 1e6 + 0.0
}
