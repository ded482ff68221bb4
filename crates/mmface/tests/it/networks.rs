//! What OpenVINO computes is what PyTorch computed.

use mmface::backend::{self, Batch, Options, Output};
use mmface::crop::CropMap;
use mmface::{Device, Error, Image, Precision};
use safetensors::SafeTensors;

use crate::common::{models, root};

/// f32 differs by the order of additions only: 5e-7 where it was measured.
const F32_TOLERANCE: f32 = 1e-4;
/// bf16 carries eight bits: 7e-3 where it was measured.
const BF16_TOLERANCE: f32 = 2e-2;

/// The crops of the reference through the Rust runtime, as one batch and one by one.
fn outputs(precision: Precision) -> Option<Vec<Output>> {
    let models = models();
    let variant = models.variant("mmface-lite").unwrap();
    let options = Options { device: Device::Cpu, precision: Some(precision), ..Options::default() };
    let backend = match backend::open(&models, &variant, &options) {
        Err(Error::Precision(why)) if precision == Precision::Bf16 => {
            assert!(why.contains("does not compute in bf16"), "{why}");
            return None;
        }
        backend => backend.unwrap(),
    };
    assert_eq!(backend.describe().precision, precision);
    let mut session = backend.session().unwrap();
    let reference = reference();
    let reference = SafeTensors::deserialize(&reference).unwrap();
    let planes = reference.tensor("image").unwrap();
    assert_eq!(planes.shape()[1..], [3, 256, 256]);
    // The crop is the whole image: its centre, no scale, no rotation.
    let whole = CropMap::square([127.5; 2], 256.0, 0.0);
    let images = planes.data().chunks_exact(3 * 256 * 256).map(|planes| {
        let pixels = (0..256 * 256).flat_map(|i| [0, 1, 2].map(|c| planes[c * 256 * 256 + i]));
        Image::rgb(256, 256, pixels.collect::<Vec<u8>>()).unwrap()
    });
    Some(
        images
            .zip(1..)
            .map(|(image, frame)| {
                let mut infer = |crops: &[CropMap]| {
                    let batch = Batch { image: &image, frame, crops, volumes: false, next: None };
                    session.infer(&batch).unwrap()
                };
                let alone = infer(&[whole]).remove(0).output;
                let together = infer(&[whole, whole]);
                assert_eq!(together.len(), 2);
                for other in together {
                    compare("in a batch", &other.output, &alone, BF16_TOLERANCE);
                }
                alone
            })
            .collect(),
    )
}

fn reference() -> Vec<u8> {
    std::fs::read(root().join("engines/mmface-lite/reference.safetensors")).unwrap()
}

/// PyTorch's outputs.
fn expected() -> Vec<Output> {
    let bytes = reference();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |name: &str| -> Vec<Vec<f32>> {
        let tensor = tensors.tensor(name).unwrap();
        let rows = tensor.data().chunks_exact(tensor.data().len() / tensor.shape()[0]);
        rows.map(|r| r.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()).collect()
    };
    let (pose, presence) = (numbers("pose"), numbers("presence"));
    let (identity, expression) = (numbers("identity"), numbers("expression"));
    let points = numbers("points");
    let in_crop = |p: &[f32; 2]| p.map(|v| v * 128.0 + 127.5);
    (0..pose.len())
        .map(|i| Output {
            pose: pose[i][..].try_into().unwrap(),
            identity: identity[i].clone(),
            expression: expression[i].clone(),
            presence: presence[i][0],
            points: points[i].as_chunks().0.iter().map(in_crop).collect(),
        })
        .collect()
}

/// All of an output in comparable units: a crop is 256 pixels wide, a turn 57° long, and people lie
/// 2 standard deviations to both sides of the mean.
fn in_units(output: &Output) -> Vec<f32> {
    let [f, pitch, yaw, roll, tx, ty, tz] = output.pose;
    let pose =
        [f / 10.0, pitch / 57.0, yaw / 57.0, roll / 57.0, tx / 256.0, ty / 256.0, tz / 256.0];
    let points: Vec<_> = output.points.iter().flatten().map(|v| v / 256.0).collect();
    let identity: Vec<_> = output.identity.iter().map(|v| v / 4.0).collect();
    [&pose[..], &identity, &output.expression, &[output.presence], &points].concat()
}

fn compare(what: &str, found: &Output, expected: &Output, tolerance: f32) {
    let (found, expected) = (in_units(found), in_units(expected));
    assert_eq!(found.len(), expected.len());
    let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let worst = off.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    println!("{what}: number {} is {} off", worst.0, worst.1);
    assert!(worst.1 < tolerance, "{what}: number {} is {} off", worst.0, worst.1);
}

#[test]
fn f32_is_what_pytorch_computed() {
    let found = outputs(Precision::F32).unwrap();
    let expected = expected();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        compare("f32", found, expected, F32_TOLERANCE);
    }
}

#[test]
fn bf16_comes_close_to_it() {
    let Some(found) = outputs(Precision::Bf16) else {
        println!("skipped: this CPU does not compute in bf16");
        return;
    };
    let expected = expected();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        compare("bf16", found, expected, BF16_TOLERANCE);
    }
}
