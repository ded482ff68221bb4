//! Model files: a folder with a `manifest.toml`, which lists the files of each variant and their
//! hashes.

mod check;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

pub(crate) use self::check::outputs as check_outputs;
use crate::crop::{CropRule, DetectorRule};
use crate::error::{Error, Result};
use crate::face::FaceModel;
use crate::gaze::GazeRule;
use crate::limited::read_limited;
use crate::locate;

const SCHEMA: u32 = 1;
/// Most bytes of a manifest, and of one of its files.
const LARGEST_MANIFEST: u64 = 4 << 20;
const LARGEST_MODEL: u64 = 1 << 30;

/// A folder of model files with its manifest.
#[derive(Debug)]
pub struct Models {
    folder: PathBuf,
    manifest: Manifest,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    schema: u32,
    face_model: FaceModelFile,
    variants: BTreeMap<String, Variant>,
    #[serde(default)]
    detectors: BTreeMap<String, DetectorRule>,
}

#[derive(Debug, Deserialize)]
struct FaceModelFile {
    file: PathBuf,
    sha256: String,
    /// Numbers of modes.
    identity: Option<usize>,
    expressions: Option<usize>,
}

/// A set of networks: an architecture with its weights.
#[derive(Debug, Clone, Deserialize)]
pub struct Variant {
    /// Name in the manifest.
    #[serde(skip)]
    pub name: String,
    /// Whether the weights have been trained. Untrained weights serve tests only.
    pub trained: bool,
    /// How crops are placed around landmarks.
    pub crop: CropRule,
    /// Presence from which on a crop counts as showing a face, 0…1.
    pub presence_threshold: f32,
    /// Weight of the PMN's points against the mesh's landmarks on a face that looks into the
    /// camera, 0…1; see [`FaceModel::with_seen_landmarks`].
    #[serde(default)]
    pub points_weight: f32,
    /// How patches around the eyes are cut; `None` if the variant has no gaze network.
    #[serde(default)]
    pub gaze: Option<GazeRule>,
    networks: BTreeMap<String, NetworkFile>,
}

#[derive(Debug, Clone, Deserialize)]
struct NetworkFile {
    file: PathBuf,
    sha256: String,
    #[serde(default)]
    outputs: Vec<Tensor>,
}

/// An output of a network. Its shape may contain names of dimensions.
#[derive(Debug, Clone, Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<toml::Value>,
}

impl Models {
    /// Opens the models of an installation or a checkout. They are searched for next to the running
    /// program, then in the working directory.
    ///
    /// # Errors
    /// [`Error::Models`] if none are found, or as [`open`](Self::open).
    pub fn find() -> Result<Self> {
        let manifest = ["share/mmface-live/engines/manifest.toml", "engines/manifest.toml"];
        let path = locate::find(None, "", &manifest).map_err(|why| {
            Error::Models(format!("{why}; run from the checkout, or name the folder of the models"))
        })?;
        Self::open(path.parent().unwrap_or(&path))
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads the manifest in `folder`.
    ///
    /// # Errors
    /// [`Error::Models`] if it is missing, unreadable or of another schema version, or if one of its
    /// entries cannot be.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("manifest.toml");
        Self::from_manifest(folder, &read(&path, LARGEST_MANIFEST)?)
    }

    /// The models of a folder whose manifest has been read.
    pub(crate) fn from_manifest(folder: &Path, manifest: &[u8]) -> Result<Self> {
        let path = folder.join("manifest.toml");
        let text = std::str::from_utf8(manifest)
            .map_err(|_| Error::Models(format!("{} is not a text file", path.display())))?;
        let manifest: Manifest = toml::from_str(text).map_err(|e| {
            let (place, why) = (line(text, e.span()), e.message().replace('\n', " "));
            Error::Models(format!("{} cannot be understood{place}: {why}", path.display()))
        })?;
        if manifest.schema != SCHEMA {
            let found = manifest.schema;
            return Err(Error::Models(format!(
                "{} has schema {found}, this program reads {SCHEMA}; take models of the same release",
                path.display()
            )));
        }
        check::manifest(&manifest)
            .map_err(|why| Error::Models(format!("{}: {why}; restore it", path.display())))?;
        Ok(Self { folder: folder.to_path_buf(), manifest })
    }

    /// The variant `name`.
    ///
    /// # Errors
    /// [`Error::Setting`], with the available names, for an unknown name.
    pub fn variant(&self, name: &str) -> Result<Variant> {
        let Some(variant) = self.manifest.variants.get(name) else {
            let names: Vec<_> = self.manifest.variants.keys().map(String::as_str).collect();
            let names = names.join(", ");
            return Err(Error::Setting(format!(
                "there is no variant {name:?}; there are: {names}"
            )));
        };
        Ok(Variant { name: name.into(), ..variant.clone() })
    }

    /// How first crops are placed around the boxes of detector `name`.
    ///
    /// # Errors
    /// [`Error::Models`] if the manifest does not describe the detector.
    pub fn detector(&self, name: &str) -> Result<DetectorRule> {
        let rule = self.manifest.detectors.get(name).copied().ok_or_else(|| {
            Error::Models(format!("the manifest does not describe the detector {name:?}"))
        })?;
        Ok(rule)
    }

    /// The face model and the SHA-256 of its file, which has been verified.
    ///
    /// # Errors
    /// [`Error::Models`] if the file is missing or unusable, [`Error::ModelHash`] if its hash is
    /// wrong.
    pub fn face_model(&self) -> Result<(FaceModel, String)> {
        let file = &self.manifest.face_model;
        let path = self.folder.join(&file.file);
        let model = FaceModel::from_bytes(&self.checked(&file.file, &file.sha256)?, &path)?;
        let counts = [
            ("identity", file.identity, model.identities),
            ("expressions", file.expressions, model.expressions.len()),
        ];
        for (entry, told, there) in counts {
            if let Some(told) = told.filter(|told| *told != there) {
                return Err(Error::Models(format!(
                    "the manifest gives face_model.{entry} as {told}, the face model {} has {there}; \
                     take both from one export",
                    model.name
                )));
            }
        }
        Ok((model, file.sha256.clone()))
    }

    /// The bytes of one of a variant's networks (`vmn`, `pmn`, `volume-64`, …). The hash is
    /// verified.
    ///
    /// # Errors
    /// [`Error::Models`] if there is no such network or file, [`Error::ModelHash`] if its hash is
    /// wrong.
    pub fn network(&self, variant: &Variant, network: &str) -> Result<Vec<u8>> {
        let file = variant.file(network)?;
        self.checked(&file.file, &file.sha256)
    }

    /// The names of all variants.
    pub fn variants(&self) -> impl Iterator<Item = &str> {
        self.manifest.variants.keys().map(String::as_str)
    }

    fn checked(&self, file: &Path, expected: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(file);
        let bytes = read(&path, LARGEST_MODEL)?;
        let found = sha256(&bytes);
        if found == expected {
            Ok(bytes)
        } else {
            Err(Error::ModelHash { path, found, expected: expected.into() })
        }
    }
}

impl Variant {
    fn file(&self, network: &str) -> Result<&NetworkFile> {
        self.networks.get(network).ok_or_else(|| {
            Error::Models(format!("the variant {} has no network {network:?}", self.name))
        })
    }

    /// The SHA-256 of one of the variant's networks, from the manifest.
    ///
    /// # Errors
    /// [`Error::Models`] if there is no such network.
    pub fn network_hash(&self, network: &str) -> Result<&str> {
        self.file(network).map(|file| file.sha256.as_str())
    }

    /// Checks that the parametric network has as many identity and expression coefficients as the
    /// face model has modes.
    ///
    /// # Errors
    /// [`Error::Models`] if the numbers differ.
    pub fn check(&self, model: &FaceModel) -> Result<()> {
        let outputs = self.networks.get("pmn").map_or(&[][..], |pmn| &pmn.outputs);
        let modes = [("identity", model.identities), ("expression", model.expressions.len())];
        for (name, modes) in modes {
            let output = outputs.iter().find(|tensor| tensor.name == name);
            match output.and_then(|tensor| tensor.shape.last()?.as_integer()) {
                Some(count) if count != modes as i64 => {
                    return Err(Error::Models(format!(
                        "{} gives {count} {name} coefficients (the shape in networks.pmn.outputs), the face model {} has {modes} modes; \
                         take both from one export",
                        self.name, model.name
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the parametric network has the output `points`: the landmarks as seen directly.
    #[must_use]
    pub fn has_points(&self) -> bool {
        let pmn = self.networks.get("pmn");
        pmn.is_some_and(|pmn| pmn.outputs.iter().any(|tensor| tensor.name == "points"))
    }

    /// Whether there is a network of that name.
    #[must_use]
    pub fn has_network(&self, network: &str) -> bool {
        self.networks.contains_key(network)
    }

    /// The name of the volume head with r×r×r voxels.
    ///
    /// # Errors
    /// [`Error::Models`], with the available resolutions, if there is none.
    pub fn volume(&self, resolution: u32) -> Result<String> {
        let name = format!("volume-{resolution}");
        if self.has_network(&name) {
            return Ok(name);
        }
        let mut there: Vec<u32> =
            self.networks().filter_map(|n| n.strip_prefix("volume-")?.parse().ok()).collect();
        there.sort_unstable();
        let there: Vec<_> = there.iter().map(u32::to_string).collect();
        let there = if there.is_empty() { "none".into() } else { there.join(", ") };
        Err(Error::Models(format!(
            "the variant {} has no volume head of resolution {resolution}; it has: {there}",
            self.name
        )))
    }

    /// The names of all networks.
    pub fn networks(&self) -> impl Iterator<Item = &str> {
        self.networks.keys().map(String::as_str)
    }

    /// SHA-256 over the hashes of all networks, hexadecimal.
    #[must_use]
    pub fn hash(&self) -> String {
        let all: Vec<_> = self.networks.values().map(|n| n.sha256.as_str()).collect();
        sha256(all.join("\n").as_bytes())
    }
}

/// The line in which a span begins, for messages.
fn line(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let Some(before) = span.and_then(|span| text.get(..span.start)) else { return String::new() };
    let number = before.matches('\n').count();
    let entry = text.lines().nth(number).and_then(|line| line.split_once('=')).map(|(key, _)| key);
    let entry = entry.map_or_else(String::new, |key| format!(" ({})", key.trim()));
    format!(", line {}{entry}", number + 1)
}

/// Reads a model file.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_limited(path, limit).map_err(|e| Error::Models(format!("{e}; restore it")))
}

/// SHA-256, hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(manifest: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("manifest.toml"), manifest).expect("written");
        folder
    }

    const MANIFEST: &str = r#"
        schema = 1
        face_model = { file = "model", sha256 = "00" }
        [variants.lite]
        trained = false
        presence_threshold = 0.5
        crop = { size = 256, scale = 1.45, raise = 0.06 }
        networks.vmn = { file = "vmn", sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }
    "#;

    #[test]
    fn a_file_must_have_its_hash() {
        let folder = folder(MANIFEST);
        let models = Models::open(folder.path()).expect("a manifest");
        let lite = models.variant("lite").expect("there");
        std::fs::write(folder.path().join("vmn"), "abc").expect("written");
        assert_eq!(models.network(&lite, "vmn").expect("hash fits"), b"abc");
        std::fs::write(folder.path().join("vmn"), "abd").expect("written");
        let error = models.network(&lite, "vmn").expect_err("hash differs");
        assert!(matches!(error, Error::ModelHash { .. }));
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = folder(MANIFEST);
        let models = Models::open(folder.path()).expect("a manifest");
        let error = models.variant("large").expect_err("no such variant");
        assert!(error.to_string().contains("lite"), "{error}");
        let lite = models.variant("lite").expect("there");
        assert!(models.network(&lite, "pmn").is_err());
        let error = lite.volume(128).expect_err("no volume head");
        assert!(error.to_string().contains("128"), "{error}");
        assert!(models.face_model().err().expect("no file").to_string().contains("model"));
        assert!(Models::open(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn other_schemas_and_absurd_crops_are_refused() {
        let newer = folder(&MANIFEST.replace("schema = 1", "schema = 2"));
        assert!(Models::open(newer.path()).is_err());
        let absurd = folder(&MANIFEST.replace("size = 256", "size = 1000000"));
        let error = Models::open(absurd.path()).expect_err("absurd").to_string();
        assert!(error.contains("variants.lite.crop.size is 1000000"), "{error}");
    }
}
