//! The GPU's engines without a GPU, with NVIDIA's real libraries: kernel and networks for all chips.

use mmface::Error;
use mmface::backend::tensorrt::{Chip, Compiled, build, check, compile_kernel};

use crate::common::{models, root};

fn chip(number: u32) -> Chip {
    Chip::new(number / 10, number % 10)
}

#[test]
fn the_kernel_compiles_for_every_chip() {
    for number in [75, 80, 86, 89, 90, 100, 120] {
        let Compiled { ptx, code } = compile_kernel(chip(number)).unwrap();
        assert!(code.starts_with(b"\x7fELF"), "{number}");
        assert!(ptx.contains(&format!(".target sm_{number}")), "{number}");
        assert!(ptx.contains(".visible .entry crop("), "{number}");
    }
    let error = compile_kernel(chip(99)).unwrap_err().to_string();
    assert!(error.contains("NVRTC") && error.contains("sm_99"), "{error}");
}

/// Every network that ships, by its name in the manifest, and the paper-size ones.
fn networks() -> Vec<(String, Vec<u8>)> {
    let models = models();
    let mut all = Vec::new();
    for name in models.variants() {
        let variant = models.variant(name).unwrap();
        // Networks in int8 are for OpenVINO.
        for network in variant.networks().filter(|network| !network.ends_with("-int8")) {
            let onnx = models.network(&variant, network).unwrap();
            all.push((format!("{network} of {name}"), onnx));
        }
    }
    for network in ["vmn", "pmn"] {
        let path = root().join(format!("tests/data/paper-{network}.onnx"));
        all.push((format!("{network} of mmface-paper"), std::fs::read(path).unwrap()));
    }
    all
}

#[test]
fn tensorrt_builds_every_network_for_two_chips() {
    for (title, onnx) in networks() {
        for number in [80, 89] {
            let engine = build(&title, &onnx, chip(number)).unwrap();
            assert!(engine.len() > 10_000, "{title} for {number}: {} bytes", engine.len());
        }
    }
}

#[test]
fn turing_takes_the_networks_in_f16_only() {
    let turing = chip(75);
    for (title, onnx) in networks() {
        if title.contains("-f16 of") {
            build(&title, &onnx, turing).unwrap();
        } else if title.starts_with("pmn of") {
            let error = build(&title, &onnx, turing).unwrap_err().to_string();
            assert!(error.contains("FP32 3D convolution"), "{error}");
        }
    }
}

#[test]
fn what_cannot_be_built_is_told_with_tensorrts_reason() {
    let error = build("garbage", b"no network", chip(89)).unwrap_err();
    assert!(matches!(error, Error::Library(_)), "{error:?}");
    assert!(error.to_string().contains("TensorRT cannot build garbage for sm_89: "), "{error}");
    let (title, onnx) = &networks()[0];
    let error = build(title, onnx, chip(90)).unwrap_err().to_string();
    assert!(error.contains("sm_90") && error.contains("tensorrt-enterprise"), "{error}");
    assert!(check(b"no engine").is_err());
}
