//! What readers guarantee for any input. The fuzz targets of `tests/fuzz` and the test that replays
//! their corpus call these functions, which panic if a guarantee is broken. Not part of the public
//! interface.

use std::path::Path;

use crate::Models;
use crate::face::{FaceModel, LANDMARKS, Params};
use crate::record::{self, Record};

/// A line of records: a record can be written and read again without a change.
///
/// # Panics
/// If a guarantee is broken.
pub fn record(bytes: &[u8]) {
    let Ok(Some(record)) = record::parse(bytes) else { return };
    let line = line(&record);
    let again = record::parse(line.as_bytes()).expect("what was written is read");
    // Rounding a second time changes nothing.
    assert_eq!(again.map(|again| self::line(&again)), Some(line));
}

fn line(record: &Record) -> String {
    serde_json::to_string(record).expect("a record can be written")
}

/// A face model: its tables fit each other, and the points of its faces are finite.
///
/// # Panics
/// If a guarantee is broken.
pub fn face_model(bytes: &[u8]) {
    let Ok(model) = FaceModel::from_bytes(bytes, Path::new("fuzzed")) else { return };
    let vertices = model.vertex_count();
    assert!(model.triangles.as_flattened().iter().all(|&corner| (corner as usize) < vertices));
    assert_eq!(model.triangle_region.len(), model.triangles.len());
    let regions = model.regions.len();
    assert!(model.triangle_region.iter().all(|&region| usize::from(region) < regions));
    for yaw in [-100.0, -20.0, 0.0, 33.0, 90.0] {
        let pose = [2.0, 10.0, yaw, 5.0, 100.0, 120.0, 3.0];
        let (identity, expression) =
            (vec![1.5; model.identities], vec![0.5; model.expressions.len()]);
        let params = Params::from_outputs(pose, &identity, &expression).expect("finite");
        let params = model.mirrored(model.centred(params));
        assert_eq!(params.identity.len(), model.identities);
        assert_eq!(params.expression.len(), model.expressions.len());
        let (mesh, fixed) = (model.vertices(&params), model.landmarks3d(&params));
        assert_eq!((mesh.len(), fixed.len()), (vertices, LANDMARKS));
        assert!(mesh.iter().chain(&fixed).flatten().all(|v| v.is_finite()));
        let landmarks = model.landmarks(&params);
        assert_eq!(landmarks.len(), LANDMARKS);
        assert!(landmarks.iter().flatten().all(|v| v.is_finite()));
        let moved = model.with_seen_landmarks(params, &landmarks, 0.5);
        assert_eq!(model.landmarks(&moved).len(), LANDMARKS);
    }
}

/// A manifest: numbers of variants and detectors are within range, and missing files are errors.
///
/// # Panics
/// If a guarantee is broken.
pub fn manifest(bytes: &[u8]) {
    let Ok(models) = Models::from_manifest(Path::new("/nonexistent"), bytes) else { return };
    // Paths out of the folder are not opened, because they may name a device that never ends.
    let inside = !bytes.iter().any(|byte| matches!(byte, b'/' | b'\\'));
    if inside {
        assert!(models.face_model().is_err());
    }
    for name in models.variants() {
        let Ok(variant) = models.variant(name) else { continue };
        assert_eq!(variant.name, name);
        assert!((0.0..=1.0).contains(&variant.points_weight));
        assert!((0.0..=1.0).contains(&variant.presence_threshold));
        assert!(variant.crop.scale > 0.0 && variant.crop.raise.abs() <= 10.0);
        assert_eq!(variant.hash().len(), 64);
        for network in variant.networks() {
            assert!(variant.has_network(network) && variant.network_hash(network).is_ok());
            if inside {
                assert!(models.network(&variant, network).is_err());
            }
        }
        let volume = variant.volume(64);
        assert!(volume.is_err() || volume.is_ok_and(|name| variant.has_network(&name)));
        let _ = variant.has_points();
    }
    for name in ["centerface", "haar"] {
        let Ok(rule) = models.detector(name) else { continue };
        let crop = rule.crop([10.0, 20.0, 30.0, 40.0], 0.5);
        assert!(crop.scale > 0.0 && crop.scale.is_finite());
        assert!(crop.centre.iter().all(|v| v.is_finite()));
    }
}
