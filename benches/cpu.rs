//! What a frame costs on the CPU, stage by stage: `make bench`.
//!
//! Names start with the device. Times are of one core where the stage has one thread, of all
//! cores for networks and detector.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use mmface::backend::{self, Batch, Options};
use mmface::crop::{self, CROP, CropMap};
use mmface::detect::{self, Kind};
use mmface::face::Params;
use mmface::volume::{Aligner, Solid, Volume, surface};
use mmface::{Device, Models, Precision};
use mmface_live::counters::Counters;
use mmface_live::frame::Frame;
use mmface_live::source::{self, Input, Source};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The first frame of a clip or picture, as the decoder hands it over.
fn frame(name: &str) -> Frame {
    let path = Path::new(ROOT).join("vendor/media").join(name);
    let options = source::Options::new(Input::File(path));
    let source = Source::open(options, Arc::new(Counters::default()));
    let source = source.expect("the demo clip; run `make setup`");
    source.frames.recv().expect("a frame")
}

const CLIP: &str = "WolfgangLanger_Pexels.mp4";

fn models() -> Models {
    Models::open(&Path::new(ROOT).join("engines")).expect("the models")
}

fn crops(c: &mut Criterion) {
    let frame = frame(CLIP);
    let image = frame.image();
    let map = CropMap::square([320.0, 180.0], 200.0, 0.2);
    let mut out = vec![0; 3 * CROP * CROP];
    c.bench_function("cpu/crop", |b| b.iter(|| crop::sample(&image, black_box(&map), &mut out)));
}

fn detectors(c: &mut Criterion) {
    let frame = frame(CLIP);
    let image = frame.image();
    let mut bench = |name: &str, kind: Kind, sizes: &[u32]| {
        for size in sizes {
            let options = detect::Options { kind, ..detect::Options::default() };
            let mut detector = detect::open(&options).expect("a detector");
            c.bench_function(&format!("cpu/detect/{name}-{size}"), |b| {
                b.iter(|| detector.detect(&image, Some(*size)).expect("detects"));
            });
        }
    };
    #[cfg(feature = "opencv")]
    {
        bench("centerface", Kind::CenterFaceOpenCv, &[320, 512, 640]);
        bench("haar", Kind::Haar, &[640]);
    }
    bench("centerface-openvino", Kind::CenterFaceOpenVino, &[320, 512, 640]);
}

fn networks(c: &mut Criterion) {
    let frame = frame(CLIP);
    let image = frame.image();
    let models = models();
    let variant = models.variant("mmface-lite").expect("a variant");
    let map = CropMap::square([320.0, 180.0], 200.0, 0.0);
    for precision in [Precision::Bf16, Precision::F32] {
        let options =
            Options { device: Device::Cpu, precision: Some(precision), ..Options::default() };
        // A CPU without bf16 has one figure fewer.
        let Ok(backend) = backend::open(&models, &variant, &options) else { continue };
        let mut session = backend.session().expect("a session");
        for faces in [1, 4] {
            let crops = vec![map; faces];
            c.bench_function(&format!("cpu/crop+vmn+pmn/{precision}/{faces}"), |b| {
                let batch =
                    Batch { image: &image, frame: 1, crops: &crops, volumes: false, next: None };
                b.iter(|| session.infer(&batch).expect("infers"));
            });
        }
    }
}

fn model(c: &mut Criterion) {
    let (model, _) = models().face_model().expect("a face model");
    let pose = [10.0, 5.0, 20.0, 3.0, 128.0, 128.0, 0.0];
    let (identity, expression) = (vec![0.5; model.identities], vec![0.2; model.expressions.len()]);
    let params = Params::from_outputs(pose, &identity, &expression).expect("finite");
    c.bench_function("cpu/face/landmarks", |b| b.iter(|| model.landmarks(black_box(&params))));
    c.bench_function("cpu/face/vertices", |b| b.iter(|| model.vertices(black_box(&params))));
}

/// What a volume costs beside the parameters, and what is made of it.
fn volumes(c: &mut Criterion) {
    let frame = frame("astronaut.png");
    let image = frame.image();
    let models = models();
    let variant = models.variant("mmface-lite").expect("a variant");
    let (model, _) = models.face_model().expect("a face model");
    let model = Arc::new(model);
    let aligner = Aligner::new(model.clone());
    let map = CropMap::square([224.5, 127.0], 138.0, 0.0);
    for resolution in [64, 128, 192] {
        let options =
            Options { device: Device::Cpu, volume: Some(resolution), ..Options::default() };
        // A resolution without weights has no figure.
        let Ok(backend) = backend::open(&models, &variant, &options) else { continue };
        let mut session = backend.session().expect("a session");
        let batch = Batch { image: &image, frame: 1, crops: &[map], volumes: true, next: None };
        let seen = session.infer(&batch).expect("infers").remove(0);
        let (output, values) = (seen.output, seen.volume.expect("a volume"));
        // The head alone: a batch with volumes less one without.
        let without = Batch { volumes: false, ..batch };
        c.bench_function(&format!("cpu/volume/head-{resolution}"), |b| {
            b.iter_custom(|count| {
                let mut time = |batch: &Batch| {
                    let started = Instant::now();
                    (0..count).for_each(|_| drop(session.infer(batch).expect("infers")));
                    started.elapsed()
                };
                time(&batch).saturating_sub(time(&without))
            })
        });
        let volume = Volume::new(values, map).expect("a cube");
        c.bench_function(&format!("cpu/volume/surface-{resolution}"), |b| {
            b.iter(|| surface(black_box(&volume)))
        });
        let params = Params::from_outputs(output.pose, &output.identity, &output.expression);
        let params = params.expect("a face").into_frame(&map);
        let vertices = model.vertices(&params);
        c.bench_function(&format!("cpu/volume/of-model-{resolution}"), |b| {
            b.iter(|| {
                let vertices = black_box(&vertices);
                Solid::new(vertices, &model.triangles, &map, resolution as usize).volume()
            })
        });
        c.bench_function(&format!("cpu/volume/icp-{resolution}"), |b| {
            b.iter(|| aligner.align(black_box(&params), &volume))
        });
    }
}

criterion_group!(benches, crops, detectors, networks, model, volumes);
criterion_main!(benches);
