//! The face model, and meshes of it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use mmface::Models;
use mmface::face::Params;
use mmface::mesh::Format;
use numpy::{AllowTypeChange, PyArray2, PyArrayLike1};
use pyo3::prelude::*;
use pyo3::types::PyMapping;

use crate::arguments::{path, shown};
use crate::error::{fail, guarded, of_library};
use crate::face::{Expression, Face, rows};

/// The face model with the SHA-256 of its file.
pub(crate) struct Model {
    pub(crate) model: Arc<mmface::face::FaceModel>,
    pub(crate) hash: String,
}

/// The model of the package, once somebody asked for it.
static LAST: Mutex<Option<(std::path::PathBuf, Arc<Model>)>> = Mutex::new(None);

/// face_model(models=None)
/// --
///
/// The 3D morphable face model of the networks: of the package, or of the folder `models`.
#[pyfunction]
#[pyo3(signature = (models = None))]
pub(crate) fn face_model(py: Python<'_>, models: Option<&Bound<'_, PyAny>>) -> PyResult<FaceModel> {
    guarded(|| {
        let folder = folder(py, models)?;
        let model = py.detach(|| {
            let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((known, model)) = &*last
                && *known == folder
            {
                return Ok(model.clone());
            }
            let (model, hash) = Models::open(&folder)
                .and_then(|models| models.face_model())
                .map_err(|e| of_library(&e))?;
            let model = Arc::new(Model { model: Arc::new(model), hash });
            *last = Some((folder, model.clone()));
            Ok::<_, PyErr>(model)
        })?;
        Ok(FaceModel(model))
    })
}

/// The folder of the models: `models`, or that of the package.
pub(crate) fn folder(
    py: Python<'_>,
    models: Option<&Bound<'_, PyAny>>,
) -> PyResult<std::path::PathBuf> {
    match models {
        Some(models) => path("models", models),
        None => place(py, "models"),
    }
}

/// A place that the package knows: `models`, `detector` or `openvino`.
pub(crate) fn place(py: Python<'_>, name: &str) -> PyResult<std::path::PathBuf> {
    py.import("mmface._places")?.call_method0(name)?.extract()
}

/// A 3D morphable face model: a mean face and modes of identity and expression.
///
/// Lengths are in centimetres. Axes: x to the subject's left, y up, z out of the face.
#[pyclass(frozen, module = "mmface")]
pub(crate) struct FaceModel(Arc<Model>);

#[pymethods]
impl FaceModel {
    /// Name of the model.
    #[getter]
    fn name(&self) -> &str {
        &self.0.model.name
    }

    /// SHA-256 of the model's file, hexadecimal.
    #[getter]
    fn hash(&self) -> &str {
        &self.0.hash
    }

    /// Number of identity modes.
    #[getter]
    fn identities(&self) -> usize {
        self.0.model.identities
    }

    /// Names of the expression modes, in the order of the weights.
    #[getter]
    fn expressions(&self) -> Vec<String> {
        self.0.model.expressions.clone()
    }

    /// Vertex indices of the triangles, counter-clockwise as seen from outside: shape (T, 3),
    /// uint32.
    #[getter]
    fn triangles<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<u32>>> {
        rows(py, &self.0.model.triangles)
    }

    /// The fitted mesh of a face, in pixels of its frame.
    fn mesh(&self, py: Python<'_>, face: &Bound<'_, PyAny>) -> PyResult<Mesh> {
        guarded(|| {
            let Ok(face) = face.cast::<Face>() else {
                return Err(fail(format!("mesh() takes a Face, not {}", shown(face))));
            };
            let face = face.get();
            if face.hash() != self.0.hash {
                return Err(fail(
                    "the face was fitted with another face model: take face_model(models=…) of the \
                     folder that its Tracker was made with",
                ));
            }
            let points = py.detach(|| self.0.model.vertices(face.params()));
            let triangles = self.0.model.triangles.clone();
            Ok(Mesh(mmface::mesh::Mesh { points, triangles, colours: Vec::new() }))
        })
    }

    /// The vertices of a face with these weights in the model's own axes, centimetres: shape (V, 3).
    /// `identity`: up to 60 standard deviations; `expression`: a mapping of names to 0…1, or up to
    /// 53 numbers. What is missing counts as 0; without arguments it is the mean face.
    #[pyo3(signature = (identity = None, expression = None))]
    fn shape<'py>(
        &self,
        py: Python<'py>,
        identity: Option<&Bound<'py, PyAny>>,
        expression: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        guarded(|| {
            let model = &self.0.model;
            let mut identity = weights("identity", identity, model.identities)?;
            // Expression weights follow those of identity.
            identity.resize(model.identities, 0.0);
            let expression = self.expression_weights(expression)?;
            let params = Params { identity, expression, ..Params::neutral() };
            rows(py, &py.detach(|| model.shape(&params)))
        })
    }

    fn __repr__(&self) -> String {
        let model = &self.0.model;
        format!(
            "<FaceModel {}: {} vertices, {} triangles, {} identity and {} expression modes>",
            model.name,
            model.vertex_count(),
            model.triangles.len(),
            model.identities,
            model.expressions.len()
        )
    }
}

impl FaceModel {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        Self(model)
    }

    fn expression_weights(&self, given: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<f32>> {
        let names = &self.0.model.expressions;
        let Some(given) = given else { return Ok(Vec::new()) };
        if let Ok(expression) = given.cast::<Expression>() {
            return Ok(expression.get().weights().to_vec());
        }
        let Ok(mapping) = given.cast::<PyMapping>() else {
            return weights("expression", Some(given), names.len());
        };
        let mut all = vec![0.0; names.len()];
        for pair in mapping.items()? {
            let (name, weight): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract()?;
            let place = name.extract::<String>().ok();
            let place = place.and_then(|name| names.iter().position(|known| *known == name));
            let weight: Option<f32> =
                weight.extract().ok().filter(|weight: &f32| weight.is_finite());
            match (place, weight) {
                (Some(place), Some(weight)) => all[place] = weight,
                (None, _) => {
                    return Err(fail(format!(
                        "the face model has no expression {}: face_model().expressions lists them",
                        shown(&name)
                    )));
                }
                (_, None) => {
                    return Err(fail(format!(
                        "the weight of {} must be a finite number",
                        shown(&name)
                    )));
                }
            }
        }
        Ok(all)
    }
}

/// Up to `most` finite numbers.
fn weights(name: &str, given: Option<&Bound<'_, PyAny>>, most: usize) -> PyResult<Vec<f32>> {
    let Some(given) = given else { return Ok(Vec::new()) };
    let numbers: Option<PyArrayLike1<'_, f32, AllowTypeChange>> = given.extract().ok();
    let numbers: Option<Vec<f32>> =
        numbers.map(|numbers| numbers.as_array().iter().copied().collect());
    numbers.filter(|all| all.len() <= most && all.iter().all(|v| v.is_finite())).ok_or_else(|| {
        fail(format!(
            "{name} must be a list of at most {most} finite numbers, not {}",
            shown(given)
        ))
    })
}

/// A mesh in pixels of a frame: x to the right, y down, z toward the camera.
#[pyclass(frozen, module = "mmface")]
pub(crate) struct Mesh(mmface::mesh::Mesh);

#[pymethods]
impl Mesh {
    /// [x, y, z] in pixels, shape (V, 3), float32.
    #[getter]
    fn vertices<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        rows(py, &self.0.points)
    }

    /// Vertex indices, counter-clockwise as seen from outside, shape (T, 3), uint32.
    #[getter]
    fn triangles<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<u32>>> {
        rows(py, &self.0.triangles)
    }

    /// Writes the mesh as .glb (binary glTF), .ply or .obj. In the file y points up.
    #[pyo3(signature = (path))]
    fn save(&self, py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<()> {
        guarded(|| {
            let path = crate::arguments::path("path", path)?;
            let format = format(&path)?;
            py.detach(|| std::fs::write(&path, self.0.to_bytes(format)))
                .map_err(|why| fail(format!("cannot write {}: {why}", path.display())))
        })
    }

    fn __repr__(&self) -> String {
        format!("<Mesh: {} vertices, {} triangles>", self.0.points.len(), self.0.triangles.len())
    }
}

/// The format that a file's name asks for.
fn format(path: &Path) -> PyResult<Format> {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    let formats = [Format::Glb, Format::Ply, Format::Obj];
    let found = formats.into_iter().find(|f| extension.as_deref() == Some(f.extension().as_ref()));
    found.ok_or_else(|| {
        fail(format!("a mesh is written as .glb, .ply or .obj, not as {}", path.display()))
    })
}
