//! A face in one frame.

use std::sync::Arc;

use mmface::face::Camera;
use mmface::face::rotation::{to_angles, to_wxyz};
use mmface::record::FaceRecord;
use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList};

use crate::error::{fail, guarded};
use crate::model::Model;

/// Rows of numbers as an array.
pub(crate) fn rows<'py, T: numpy::Element + Copy, const N: usize>(
    py: Python<'py>,
    rows: &[[T; N]],
) -> PyResult<Bound<'py, PyArray2<T>>> {
    PyArray1::from_slice(py, rows.as_flattened()).reshape([rows.len(), N])
}

/// A face in one frame, smoothed over time.
///
/// Lengths and places are in pixels of the frame; (0, 0) is the centre of the top left pixel, x
/// points right, y down, z toward the camera. Arrays are of dtype float32, and new with every
/// access.
#[pyclass(frozen, module = "mmface")]
pub(crate) struct Face {
    face: mmface::Face,
    model: Arc<Model>,
}

impl Face {
    pub(crate) fn new(face: mmface::Face, model: Arc<Model>) -> Self {
        Self { face, model }
    }

    pub(crate) fn params(&self) -> &mmface::face::Params {
        &self.face.params
    }

    pub(crate) fn hash(&self) -> &str {
        &self.model.hash
    }
}

#[pymethods]
impl Face {
    /// Id of the person: the same for as long as the face is followed, never reused.
    #[getter]
    fn id(&self) -> u64 {
        self.face.id
    }

    /// How sure it is that this is a face and that the fit agrees with what the networks see, 0…1.
    #[getter]
    fn confidence(&self) -> f32 {
        self.face.confidence
    }

    /// Box around the landmarks, pixels: [x, y, width, height], shape (4,).
    #[getter]
    fn r#box<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &self.face.bounds)
    }

    /// Scale of the weak perspective: pixels per centimetre of the face.
    #[getter]
    fn f(&self) -> f32 {
        self.face.params.f
    }

    /// Head pose [pitch, yaw, roll] in degrees, in 300W-LP's convention, shape (3,). Yaw is negative
    /// when the face turns towards the right of the picture.
    #[getter]
    fn r<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &to_angles(&self.face.params.rotation))
    }

    /// The same rotation as a unit quaternion [w, x, y, z], w >= 0, from the model's axes to the
    /// camera's, shape (4,).
    #[getter]
    fn q<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &to_wxyz(&self.face.params.rotation))
    }

    /// Place [x, y, z] of the model's origin, which is inside the head, pixels, shape (3,).
    #[getter]
    fn t<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &self.face.params.t)
    }

    /// Weights of the identity modes in standard deviations, shape (60,): who it is. Nearly constant
    /// for a person.
    #[getter]
    fn identity<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &self.face.params.identity)
    }

    /// Weights of the expressions, 0…1, by name: a mapping of 53 ARKit-like names to floats.
    #[getter]
    fn expression(&self) -> Expression {
        Expression::new(&self.face.params.expression, &self.model)
    }

    /// 68 landmarks [x, y] in pixels, in the order of 300-W (iBUG), shape (68, 2). The contour
    /// follows the visible outline.
    #[getter]
    fn landmarks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        rows(py, &self.face.landmarks)
    }

    /// The 68 landmarks as points fixed on the head, hidden ones too: [x, y, z] in pixels, shape
    /// (68, 3).
    #[getter]
    fn landmarks3d<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        guarded(|| rows(py, &self.model.model.landmarks3d(&self.face.params)))
    }

    /// Where the eyes look, or None if the models do not tell.
    #[getter]
    fn gaze(&self) -> Option<Gaze> {
        Some(Gaze(self.face.gaze.as_ref()?.into()))
    }

    /// What the networks saw in this frame alone, before smoothing.
    #[getter]
    fn raw(&self) -> Raw {
        Raw { params: self.face.raw.clone(), model: self.model.clone() }
    }

    /// in_camera(size, *, fov=None, focal=None)
    /// --
    ///
    /// The pose in the space of a camera whose lens is known, which r and t leave out: the rotation to
    /// the camera's axes instead of to the ray on which the head lies, and the place in centimetres.
    ///
    /// size : (width, height) of the frame in pixels
    /// fov : degrees that the camera sees from left to right
    /// focal : instead of it the focal length in pixels
    #[pyo3(signature = (size, *, fov = None, focal = None))]
    fn in_camera(
        &self,
        size: (u32, u32),
        fov: Option<f32>,
        focal: Option<f32>,
    ) -> PyResult<CameraPose> {
        let (width, height) = size;
        let camera = match (fov, focal) {
            (Some(degrees), None) if (1.0..=170.0).contains(&degrees) => {
                Camera::of_view(degrees, width, height)
            }
            (None, Some(pixels)) if (1.0..=1e6).contains(&pixels) => {
                Camera::of_focal(pixels, width, height)
            }
            (Some(_), None) => return Err(fail("fov has to be within 1 to 170 degrees")),
            (None, Some(_)) => return Err(fail("focal has to be within 1 to 1000000 pixels")),
            _ => return Err(fail("in_camera needs either fov or focal")),
        };
        guarded(|| {
            let pose = self.model.model.pose_in(&self.face.params, &camera);
            Ok(CameraPose(mmface::record::CameraPose::new(&pose, &camera)))
        })
    }

    /// vertices()
    /// --
    ///
    /// The vertices of the fitted mesh: [x, y, z] in pixels, shape (V, 3). The triangles are those
    /// of face_model().triangles.
    fn vertices<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        guarded(|| {
            let (model, params) = (&self.model.model, &self.face.params);
            rows(py, &py.detach(|| model.vertices(params)))
        })
    }

    /// The face as a dict of lists, as in the records of mmface-live: the same fields, rounded the
    /// same way.
    #[pyo3(signature = (*, landmarks = false, vertices = false, raw = false))]
    fn to_dict<'py>(
        &self,
        py: Python<'py>,
        landmarks: bool,
        vertices: bool,
        raw: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let (model, params) = (&self.model.model, &self.face.params);
            let record = FaceRecord {
                landmarks: landmarks.then(|| self.face.landmarks.clone()),
                landmarks3d: landmarks.then(|| model.landmarks3d(params)),
                vertices: vertices.then(|| model.vertices(params)),
                raw: raw.then(|| (&self.face.raw).into()),
                ..(&self.face).into()
            };
            let text = serde_json::to_string(&record).map_err(|e| fail(e.to_string()))?;
            py.import("json")?.call_method1("loads", (text,))
        })
    }

    fn __repr__(&self) -> String {
        let [pitch, yaw, roll] = to_angles(&self.face.params.rotation);
        let [x, y, width, height] = self.face.bounds;
        format!(
            "<Face {}: box ({x:.0}, {y:.0}, {width:.0}, {height:.0}), pitch {pitch:.1}°, \
             yaw {yaw:.1}°, roll {roll:.1}°>",
            self.face.id
        )
    }
}

/// The pose of a head in camera space: x right, y up, z toward the camera, which is at the origin.
#[pyclass(frozen, module = "mmface")]
pub(crate) struct CameraPose(mmface::record::CameraPose);

#[pymethods]
impl CameraPose {
    /// The focal length, pixels.
    #[getter]
    fn focal(&self) -> f32 {
        self.0.focal
    }

    /// Rotation [pitch, yaw, roll] in degrees, as Face.r but to the camera's axes, shape (3,).
    #[getter]
    fn r<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &self.0.r)
    }

    /// The same as a unit quaternion [w, x, y, z], w >= 0, shape (4,).
    #[getter]
    fn q<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &self.0.q)
    }

    /// Place [x, y, z] of the model's origin in centimetres for a head of average size, shape (3,). z
    /// is negative in front of the camera.
    #[getter]
    fn t<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &self.0.t)
    }

    fn __repr__(&self) -> String {
        let ([pitch, yaw, roll], [x, y, z]) = (self.0.r, self.0.t);
        format!(
            "<CameraPose: pitch {pitch:.1}°, yaw {yaw:.1}°, roll {roll:.1}°, at ({x:.1}, {y:.1}, {z:.1}) cm>"
        )
    }
}

/// Where a face looks: the subject's left eye, the right eye, and both.
#[pyclass(frozen, module = "mmface")]
pub(crate) struct Gaze(mmface::record::Gaze);

#[pymethods]
impl Gaze {
    /// The subject's left eye.
    #[getter]
    fn left(&self) -> Look {
        Look(self.0.left)
    }

    /// The subject's right eye.
    #[getter]
    fn right(&self) -> Look {
        Look(self.0.right)
    }

    /// Both eyes: the mean of their directions.
    #[getter]
    fn both(&self) -> Look {
        Look(self.0.both)
    }

    fn __repr__(&self) -> String {
        let [pitch, yaw] = self.0.both.angles;
        format!(
            "<Gaze: pitch {pitch:.1}°, yaw {yaw:.1}°, confidence {:.2}>",
            self.0.both.confidence
        )
    }
}

/// Where an eye looks.
#[pyclass(frozen, module = "mmface")]
pub(crate) struct Look(mmface::record::Look);

#[pymethods]
impl Look {
    /// Unit vector [x, y, z]: x right, y up, z toward the camera, shape (3,).
    #[getter]
    fn direction<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &self.0.direction)
    }

    /// The same as [pitch, yaw] in degrees, with the signs of Face.r, shape (2,).
    #[getter]
    fn angles<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &self.0.angles)
    }

    /// Probability that the iris is in sight, 0…1. Below 0.5 the direction is that of the other eye,
    /// or the last one, or straight ahead.
    #[getter]
    fn confidence(&self) -> f32 {
        self.0.confidence
    }

    /// Middle of the iris [x, y] in pixels, shape (2,); None while it is not in sight, and of both
    /// eyes.
    #[getter]
    fn iris<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyArray1<f32>>> {
        Some(PyArray1::from_slice(py, &self.0.iris?))
    }

    fn __repr__(&self) -> String {
        let [pitch, yaw] = self.0.angles;
        format!("<Look: pitch {pitch:.1}°, yaw {yaw:.1}°, confidence {:.2}>", self.0.confidence)
    }
}

/// A face's parameters as the networks saw them in one frame, before smoothing; units as in Face.
#[pyclass(frozen, module = "mmface")]
pub(crate) struct Raw {
    params: mmface::face::Params,
    model: Arc<Model>,
}

#[pymethods]
impl Raw {
    /// Pixels per centimetre.
    #[getter]
    fn f(&self) -> f32 {
        self.params.f
    }

    /// [pitch, yaw, roll] in degrees, shape (3,).
    #[getter]
    fn r<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &to_angles(&self.params.rotation))
    }

    /// Unit quaternion [w, x, y, z], shape (4,).
    #[getter]
    fn q<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &to_wxyz(&self.params.rotation))
    }

    /// Place of the model's origin in pixels, shape (3,).
    #[getter]
    fn t<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &self.params.t)
    }

    /// Weights of the identity modes in standard deviations, shape (60,).
    #[getter]
    fn identity<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &self.params.identity)
    }

    /// Weights of the expressions, 0…1, by name.
    #[getter]
    fn expression(&self) -> Expression {
        Expression::new(&self.params.expression, &self.model)
    }

    fn __repr__(&self) -> String {
        let [pitch, yaw, roll] = to_angles(&self.params.rotation);
        format!("<Raw: pitch {pitch:.1}°, yaw {yaw:.1}°, roll {roll:.1}°>")
    }
}

/// Weights of the expressions by name: `face.expression["jawOpen"]`. Works like a dict that cannot
/// be changed; `numpy.asarray(face.expression)` is the weights alone, in the order of the names.
#[pyclass(frozen, mapping, module = "mmface")]
pub(crate) struct Expression {
    weights: Vec<f32>,
    model: Arc<Model>,
}

impl Expression {
    fn new(weights: &[f32], model: &Arc<Model>) -> Self {
        Self { weights: weights.to_vec(), model: model.clone() }
    }

    pub(crate) fn weights(&self) -> &[f32] {
        &self.weights
    }

    fn find(&self, name: &str) -> Option<f32> {
        let place = self.model.model.expressions.iter().position(|known| known == name)?;
        self.weights.get(place).copied()
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, f32)> {
        self.model.model.expressions.iter().map(String::as_str).zip(self.weights.iter().copied())
    }
}

#[pymethods]
impl Expression {
    fn __len__(&self) -> usize {
        self.weights.len()
    }

    fn __getitem__(&self, name: &Bound<'_, PyAny>) -> PyResult<f32> {
        let found = name.extract::<String>().ok().and_then(|name| self.find(&name));
        found.ok_or_else(|| PyKeyError::new_err(name.clone().unbind()))
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        name.extract::<String>().is_ok_and(|name| self.find(&name).is_some())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.keys(py)?.try_iter()
    }

    /// The weight of a name, or `default`.
    #[pyo3(signature = (name, default = None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match name.extract::<String>().ok().and_then(|name| self.find(&name)) {
            Some(weight) => Ok(Some(weight.into_pyobject(py)?.into_any())),
            None => Ok(default),
        }
    }

    /// The names, in the order in which records carry the weights.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.pairs().map(|(name, _)| name))
    }

    /// The weights in that order, 0…1.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.pairs().map(|(_, weight)| weight))
    }

    /// Pairs of name and weight.
    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.pairs())
    }

    #[pyo3(signature = (dtype = None, copy = None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<Bound<'py, PyAny>>,
        copy: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = copy;
        let array = PyArray1::from_slice(py, &self.weights).into_any();
        match dtype {
            Some(dtype) => array.call_method1("astype", (dtype,)),
            None => Ok(array),
        }
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = other.py();
        let mine = PyDict::new(py);
        for (name, weight) in self.pairs() {
            mine.set_item(name, weight)?;
        }
        match other.cast::<Self>() {
            Ok(other) => {
                let other = other.get();
                Ok(self.weights == other.weights && self.model.hash == other.model.hash)
            }
            Err(_) => mine.eq(other),
        }
    }

    fn __repr__(&self) -> String {
        let mut strongest: Vec<_> = self.pairs().collect();
        strongest.sort_by(|a, b| b.1.total_cmp(&a.1));
        let strongest: Vec<_> =
            strongest.iter().take(4).map(|(name, weight)| format!("{name}: {weight:.2}")).collect();
        format!("<Expression of {}: {}, …>", self.weights.len(), strongest.join(", "))
    }
}
