//! Everything about the GPU that needs no GPU, with NVIDIA's real libraries: kernels and engines for
//! all chips, the cache of engines, and what is said where something is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mmface_live::nets::Engines;
use mmface_live::nets::tensorrt::{Chip, Compiled, build, check, compile_kernel, gpu};
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

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
    let engines = Engines::open(&Path::new(ROOT).join("engines")).unwrap();
    let mut all = Vec::new();
    for name in engines.variants() {
        let variant = engines.variant(name).unwrap();
        for network in variant.networks() {
            let onnx = engines.network(&variant, network).unwrap();
            all.push((format!("{network} of {name}"), onnx));
        }
    }
    for network in ["vmn", "pmn"] {
        let path = Path::new(ROOT).join(format!("tests/data/paper-{network}.onnx"));
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
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("TensorRT cannot build garbage for sm_89: "), "{error}");
    let (title, onnx) = &networks()[0];
    let error = build(title, onnx, chip(90)).unwrap_err().to_string();
    assert!(error.contains("sm_90") && error.contains("tensorrt-enterprise"), "{error}");
    assert!(check(b"no engine").is_err());
}

fn mmface(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmface-live"));
    command.args(arguments).current_dir(ROOT).env_remove("RUST_LOG");
    command
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Exit code, and everything that was said.
fn run(arguments: &[&str]) -> (i32, String) {
    let output = mmface(arguments).output().unwrap();
    (output.status.code().unwrap_or(-1), said(&output))
}

fn cache() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    (folder, path)
}

#[test]
fn engines_are_built_once_and_anew_when_damaged() {
    let (_folder, cache) = cache();
    let place = cache.to_str().unwrap();
    let build = || run(&["engines", "build", "--target", "sm_89,86", "--engine-cache", place]);
    let (code, first) = build();
    assert_eq!(code, 0, "{first}");
    assert!(first.contains("building the engine of vmn of mmface-lite for sm_86"), "{first}");
    let (code, second) = build();
    assert_eq!(code, 0, "{second}");
    assert!(second.contains("is there") && !second.contains("building"), "{second}");

    let engines: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(engines.len() >= 4);
    let damaged = engines.iter().find(|p| p.to_string_lossy().contains("vmn")).unwrap();
    let bytes = std::fs::read(damaged).unwrap();
    std::fs::write(damaged, &bytes[..bytes.len() / 2]).unwrap();
    let (_, checked) = run(&["engines", "check", "--engine-cache", place]);
    assert!(checked.contains("cut off or damaged"), "{checked}");
    let (code, third) = build();
    assert_eq!(code, 0, "{third}");
    assert_eq!(third.matches("building").count(), 1, "{third}");

    let (code, listed) = run(&["engines", "list", "--engine-cache", place]);
    assert_eq!(code, 0);
    for word in ["mmface-lite", "vmn", "pmn", "sm_86", "sm_89"] {
        assert!(listed.contains(word), "{word}: {listed}");
    }
    assert!(!listed.contains("of other networks"), "{listed}");
}

#[test]
fn a_cache_that_cannot_be_written_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let place = file.path().to_str().unwrap();
    let (code, said) = run(&["engines", "build", "--target", "sm_89", "--engine-cache", place]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("--engine-cache"), "{said}");
}

#[test]
fn missing_libraries_are_named_with_their_cure() {
    for folder in ["/nonexistent", "/tmp"] {
        let output = mmface(&["engines", "build", "--target", "sm_89"])
            .env("MMFACE_TENSORRT", folder)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(4), "{}", said(&output));
        assert!(said(&output).contains("make setup-gpu"), "{}", said(&output));
    }
}

#[test]
fn wrong_words_are_told() {
    assert_eq!(run(&["engines", "build", "--target", "RTX"]).0, 2);
    let (code, said) = run(&["engines", "list", "--variant", "none"]);
    assert_eq!(code, 2, "{said}");
}

const PICTURE: &str = "vendor/media/astronaut.png";

#[test]
fn without_a_gpu_cuda_is_an_error_and_auto_takes_the_cpu() {
    if gpu().is_ok() {
        return;
    }
    let (code, cuda) = run(&["--file", PICTURE, "--device", "cuda"]);
    assert_eq!(code, 5, "{cuda}");
    assert!(cuda.contains("NVIDIA driver") && cuda.contains("--device cpu"), "{cuda}");
    assert!(!cuda.contains("panic") && !cuda.contains("\"type\""), "{cuda}");

    let (code, auto) = run(&["--file", PICTURE]);
    assert_eq!(code, 0, "{auto}");
    assert_eq!(auto.matches("the CPU is used: there is no NVIDIA driver").count(), 1, "{auto}");

    let (code, cpu) = run(&["--file", PICTURE, "--device", "cpu"]);
    assert_eq!(code, 0, "{cpu}");
    assert!(!cpu.contains("NVIDIA"), "{cpu}");

    let (code, f16) = run(&["--file", PICTURE, "--device", "cpu", "--precision", "f16"]);
    assert_eq!(code, 2, "{f16}");

    let (code, here) = run(&["engines", "build"]);
    assert_eq!(code, 5, "{here}");
    assert!(here.contains("--target"), "{here}");
    assert_eq!(run(&["engines", "check"]).0, 5);
}

#[test]
fn a_reader_who_has_gone_is_no_bug() {
    let told = std::process::Command::new("sh")
        .args(["-c", "{ sleep 0.2; \"$0\" engines list; echo \"code $?\" >&2; } | true"])
        .arg(env!("CARGO_BIN_EXE_mmface-live"))
        .current_dir(crate::common::root())
        .output()
        .unwrap();
    let told = String::from_utf8(told.stderr).unwrap();
    assert_eq!(told.trim(), "code 0");
}

#[test]
fn the_doctor_looks_at_everything() {
    let (code, told) = run(&["doctor"]);
    assert_eq!(code, 0, "{told}");
    for what in
        ["GStreamer", "OpenCV", "OpenVINO", "engines", "cameras", "GPU", "TensorRT", "NVRTC"]
    {
        assert!(told.contains(what), "{what}: {told}");
    }
    let (code, told) = run(&["doctor", "--engines", "/nonexistent"]);
    assert_eq!(code, 4, "{told}");
    assert!(told.contains("manifest.toml"), "{told}");
}

#[test]
fn a_run_on_the_cpu_loads_nothing_of_nvidia() {
    // The loader tells of every library that it opens.
    let output =
        mmface(&["--file", PICTURE, "--device", "cpu"]).env("LD_DEBUG", "files").output().unwrap();
    let told = said(&output);
    assert!(told.contains("libopenvino"), "the loader says nothing");
    for library in ["libcuda", "libnvrtc", "libtensorrt", "libnvinfer"] {
        assert!(!told.contains(library), "{library} is loaded");
    }
}
