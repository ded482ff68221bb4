//! Everything about the GPU that needs no GPU, with NVIDIA's real libraries: the cache of engines, and
//! what is said where something is missing.

use std::path::PathBuf;

use mmface::backend::tensorrt::gpu;
use tempfile::TempDir;

use crate::common::program::{Done, Running, on_any_device, shell};

/// Exit code, and everything that was said.
fn said(done: &Done) -> (i32, String) {
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    (done.code.unwrap_or(-1), text + &done.stderr)
}

fn run(arguments: &[&str]) -> (i32, String) {
    run_with(arguments, &[])
}

/// The same in another environment.
fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = on_any_device(arguments);
    command.envs(variables.iter().copied());
    said(&Running::start(command).finish())
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
        let build = ["engines", "build", "--target", "sm_89"];
        let (code, said) = run_with(&build, &[("MMFACE_TENSORRT", folder)]);
        assert_eq!(code, 4, "{said}");
        assert!(said.contains("make setup-gpu"), "{said}");
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
fn the_cpu_is_taken_without_a_word_about_gpus() {
    let (code, cpu) = run(&["--file", PICTURE, "--device", "cpu"]);
    assert_eq!(code, 0, "{cpu}");
    assert!(!cpu.contains("NVIDIA"), "{cpu}");
    let (code, f16) = run(&["--file", PICTURE, "--device", "cpu", "--precision", "f16"]);
    assert_eq!(code, 2, "{f16}");
    assert!(f16.contains("--precision"), "{f16}");
}

#[test]
fn without_a_gpu_cuda_is_an_error_and_auto_takes_the_cpu() {
    let Err(why) = gpu() else {
        println!("skipped: there is a GPU here");
        return;
    };
    // Without a driver this says so; with one, what is wrong with it.
    let why = why.to_string();
    let (code, cuda) = run(&["--file", PICTURE, "--device", "cuda"]);
    assert_eq!(code, 5, "{cuda}");
    assert!(cuda.contains(&why) && cuda.contains("--device cpu"), "{cuda}");
    assert!(!cuda.contains("\"type\""), "{cuda}");

    let (code, auto) = run(&["--file", PICTURE]);
    assert_eq!(code, 0, "{auto}");
    assert_eq!(auto.matches(&format!("the CPU is used: {why}")).count(), 1, "{auto}");
    assert!(auto.contains("\"device\":\"cpu\""), "{auto}");

    let (code, here) = run(&["engines", "build"]);
    assert_eq!(code, 5, "{here}");
    assert!(here.contains("--target"), "{here}");
    assert_eq!(run(&["engines", "check"]).0, 5);
}

#[test]
fn a_reader_who_has_gone_is_no_bug() {
    let program = on_any_device(["engines", "list"]);
    let script = "{ sleep 0.2; \"$0\" \"$@\"; echo \"code $?\" >&2; } | true";
    let done = Running::start(shell(script, &program)).finish();
    assert_eq!(done.stderr.trim(), "code 0");
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
    let on_cpu = ["--file", PICTURE, "--device", "cpu"];
    let (code, told) = run_with(&on_cpu, &[("LD_DEBUG", "files")]);
    assert_eq!(code, 0);
    assert!(told.contains("libopenvino"), "the loader says nothing");
    for library in ["libcuda", "libnvrtc", "libtensorrt", "libnvinfer"] {
        assert!(!told.contains(library), "{library} is loaded");
    }
}
