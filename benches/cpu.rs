//! What a frame costs on the CPU, stage by stage: `make bench`.
//!
//! Names start with the device. Times are of one core where the stage has one thread, of all
//! cores for networks and detector.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use mmface_live::crop::{self, CROP, CropMap};
use mmface_live::detect;
use mmface_live::face::Params;
use mmface_live::frame::Image;
use mmface_live::nets::{self, Device, Engines, Options, Precision};
use mmface_live::source::{Input, Source};
use mmface_live::volume::{Aligner, Solid, Volume, surface};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A frame of the demo clip, as the decoder hands it over.
fn frame() -> Image {
    let path = Path::new(ROOT).join("vendor/media/WolfgangLanger_Pexels.mp4");
    let options = mmface_live::source::Options::new(Input::File(path));
    let source = Source::open(options).expect("the demo clip; run `make setup`");
    source.frames.recv().expect("a frame").image
}

fn crops(c: &mut Criterion) {
    let image = frame();
    let map = CropMap::square([320.0, 180.0], 200.0, 0.2);
    let mut out = vec![0; 3 * CROP * CROP];
    c.bench_function("cpu/crop", |b| b.iter(|| crop::sample(&image, black_box(&map), &mut out)));
}

fn detectors(c: &mut Criterion) {
    let image = frame();
    for size in [320, 512, 640] {
        let mut detector =
            detect::open(detect::Kind::Centerface, None, Some(size)).expect("a detector");
        c.bench_function(&format!("cpu/detect/centerface-{size}"), |b| {
            b.iter(|| detector.detect(&image).expect("detects"));
        });
    }
    let mut detector = detect::open(detect::Kind::Haar, None, Some(640)).expect("a detector");
    c.bench_function("cpu/detect/haar-640", |b| {
        b.iter(|| detector.detect(&image).expect("detects"))
    });
}

fn networks(c: &mut Criterion) {
    let image = frame();
    let engines = Engines::open(&Path::new(ROOT).join("engines")).expect("engines");
    let variant = engines.variant("mmface-lite").expect("a variant");
    let map = CropMap::square([320.0, 180.0], 200.0, 0.0);
    for precision in [Precision::Bf16, Precision::F32] {
        let options =
            Options { device: Device::Cpu, precision: Some(precision), ..Options::default() };
        // A CPU without bf16 has one figure fewer.
        let Ok(mut backend) = nets::open(&engines, &variant, &options) else { continue };
        for faces in [1, 4] {
            let maps = vec![map; faces];
            c.bench_function(&format!("cpu/crop+vmn+pmn/{precision}/{faces}"), |b| {
                b.iter(|| {
                    let ticket = backend.submit(&image, &maps).expect("submits");
                    backend.collect(ticket).expect("collects")
                });
            });
        }
    }
}

fn model(c: &mut Criterion) {
    let engines = Engines::open(&Path::new(ROOT).join("engines")).expect("engines");
    let (model, _) = engines.face_model().expect("a face model");
    let pose = [10.0, 5.0, 20.0, 3.0, 128.0, 128.0, 0.0];
    let (identity, expression) = (vec![0.5; model.identities], vec![0.2; model.expressions.len()]);
    let params = Params::from_outputs(pose, &identity, &expression).expect("finite");
    c.bench_function("cpu/face/landmarks", |b| b.iter(|| model.landmarks(black_box(&params))));
    c.bench_function("cpu/face/vertices", |b| b.iter(|| model.vertices(black_box(&params))));
}

/// What a volume costs beside the parameters, and what is made of it.
fn volumes(c: &mut Criterion) {
    let picture = Path::new(ROOT).join("vendor/media/astronaut.png");
    let source = Source::open(mmface_live::source::Options::new(Input::File(picture)));
    let image = source.expect("the portrait").frames.recv().expect("a frame").image;
    let engines = Engines::open(&Path::new(ROOT).join("engines")).expect("engines");
    let variant = engines.variant("mmface-lite").expect("a variant");
    let (model, _) = engines.face_model().expect("a face model");
    let model = Arc::new(model);
    let aligner = Aligner::new(model.clone());
    let map = CropMap::square([224.5, 127.0], 138.0, 0.0);
    for resolution in [64, 128, 192] {
        let options =
            Options { device: Device::Cpu, volume: Some(resolution), ..Options::default() };
        // A resolution without weights has no figure.
        let Ok(mut backend) = nets::open(&engines, &variant, &options) else { continue };
        let ticket = backend.submit(&image, &[map]).expect("submits");
        let output = backend.collect(ticket).expect("collects").remove(0);
        let mut head = || backend.volume(0).expect("a volume");
        c.bench_function(&format!("cpu/volume/head-{resolution}"), |b| b.iter(&mut head));
        let volume = Volume::new(head(), map).expect("a cube");
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
