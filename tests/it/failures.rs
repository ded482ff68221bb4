//! Every way to fail: its exit code, and one sentence that names the cure.

use std::path::Path;

use mmface::record::Record;

use crate::common::program::{Running, command, exit_code, run};
use crate::common::{clip, media, root};

/// Runs with the arguments of a line, which must fail with that code, and returns the sentence.
fn fails(code: i32, line: &str) -> String {
    let done = run(line.split_whitespace());
    assert!(done.stdout.is_empty() || code != 2, "wrong use writes no record");
    done.failure(code).to_owned()
}

/// The same, for failures that have to do with a file.
fn fails_with(code: i32, flag: &str, path: &Path, more: &str) -> String {
    let flags = [flag.as_ref(), path.as_os_str()];
    let done = run(flags.into_iter().chain(more.split_whitespace().map(AsRef::as_ref)));
    done.failure(code).to_owned()
}

#[track_caller]
fn says(sentence: &str, words: &str) {
    assert!(sentence.contains(words), "not {words:?}: {sentence}");
}

#[test]
fn wrong_use_is_2() {
    says(&fails(2, ""), "--file PATH");
    says(&fails(2, "--file a.mp4 --camera 0"), "one source");
    for flag in [
        "--faces 0",
        "--faces 65",
        "--detect-size 9",
        "--detect-every 0",
        "--detect-every NaN",
        "--volume 257",
        "--volume 8",
    ] {
        says(&fails(2, &format!("--file a.mp4 {flag}")), "is not within");
    }
    for flag in ["--threads 0", "--threads 99999", "--silence -1", "--silence inf"] {
        says(&fails(2, &format!("--rtsp rtsp://a {}", flag.replace(' ', "="))), "is not within");
    }
    says(&fails(2, "--file a.mp4 --variant large"), "mmface-lite");
    says(&fails(2, "--pipeline nosuchelement"), "--pipeline");
    says(&fails(2, "--file a.mp4 --report -"), "name one");
    // These are clap's own.
    for line in
        ["--frobnicate", "--faces -1", "--faces many", "--smooth very", "--file", "schema --file a"]
    {
        let done = run(line.split_whitespace());
        assert_eq!((done.code, done.stdout.len()), (Some(2), 0), "{line}: {}", done.stderr);
        says(&done.stderr, "error");
    }
}

#[test]
fn a_wrong_configuration_is_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    for (text, words) in [
        ("file = \"a.mp4\"\nfcaes = 2\n", "line 2: unknown field `fcaes`"),
        ("file = \"a.mp4\"\nfaces = -3\n", "line 2"),
        ("file = \"a.mp4\"\nfaces = 1000\n", "is not within"),
        ("file = ", "line 1"),
        ("faces = 2\n", "name a source"),
        ("file = \"a\"\ncamera = \"0\"\n", "one source"),
    ] {
        std::fs::write(&path, text).unwrap();
        says(&fails_with(2, "--config", &path, ""), words);
    }
    std::fs::write(&path, [0xff, 0xfe, 0]).unwrap();
    says(&fails_with(2, "--config", &path, ""), "cannot read");
    says(&fails_with(2, "--config", &folder.path().join("none.toml"), ""), "cannot read");
    says(&fails_with(2, "--config", folder.path(), ""), "cannot read");
}

#[test]
fn a_source_that_cannot_be_opened_is_3() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let missing = folder.path().join("missing.mp4");
    says(&fails_with(3, "--file", &missing, ""), "does not exist");
    says(&fails_with(3, "--file", folder.path(), ""), "--images");
    says(&fails_with(3, "--file", &file("empty.mp4", b""), ""), "is empty");
    let text = file("text.mp4", "this is no video\n".repeat(1000).as_bytes());
    says(&fails_with(3, "--file", &text, ""), "neither video nor picture");
    let video = std::fs::read(clip("single_face.mp4")).unwrap();
    let cut = file("cut.mp4", &video[..video.len() / 3]);
    says(&fails_with(3, "--file", &cut, ""), "cut.mp4");
    says(&fails_with(3, "--file", &file("broken.png", b"\x89PNG\r\n\x1a\n...."), ""), "broken.png");
    let sound = folder.path().join("sound.ogg");
    let tone = "audiotestsrc num-buffers=20 ! vorbisenc ! oggmux ! filesink location=";
    media::run(&format!("{tone}{}", sound.display()));
    says(&fails_with(3, "--file", &sound, ""), "neither video nor picture");
    says(&fails_with(3, "--images", &missing, ""), "cannot be read");
    says(&fails_with(3, "--images", &text, ""), "--file");
    says(&fails(3, "--camera 97"), "/dev/video97");
    says(&fails(3, "--rtsp http://me:s3cret@host/"), "is no RTSP URL");
}

/// A copy of the engines, in which a test can change a file.
fn engines() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = root().join("engines");
    std::fs::create_dir(folder.path().join("mmface-lite")).unwrap();
    for name in [
        "manifest.toml",
        "face-model.safetensors",
        "mmface-lite/vmn-int8.onnx",
        "mmface-lite/pmn-int8.onnx",
        "mmface-lite/gaze.onnx",
    ] {
        std::fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// On the CPU, as everything that names no device here.
const RUN: &str = "--pipeline videotestsrc";

#[test]
fn an_empty_variable_counts_as_none() {
    let mut command = command(["engines", "list"]);
    command.envs([("MMFACE_ENGINES", ""), ("MMFACE_ENGINE_CACHE", "")]);
    let done = Running::start(command).finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn engines_that_are_not_what_they_should_be_are_4() {
    let missing = Path::new("/nonexistent");
    says(&fails_with(4, "--engines", missing, RUN), "--engines");
    for name in [
        "face-model.safetensors",
        "mmface-lite/vmn-int8.onnx",
        "mmface-lite/pmn-int8.onnx",
        "mmface-lite/gaze.onnx",
    ] {
        let folder = engines();
        let path = folder.path().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let sentence = fails_with(4, "--engines", folder.path(), RUN);
        says(&sentence, "is not the file that the manifest describes");
        says(&sentence, name);
        std::fs::remove_file(&path).unwrap();
        says(&fails_with(4, "--engines", folder.path(), RUN), name);
    }
    let folder = engines();
    std::fs::write(folder.path().join("manifest.toml"), "schema = 7").unwrap();
    says(&fails_with(4, "--engines", folder.path(), RUN), "manifest.toml");
}

/// A face model whose hash fits but whose content does not.
#[test]
fn a_damaged_face_model_is_4() {
    let folder = engines();
    let manifest = folder.path().join("manifest.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let hash = text.split("sha256 = \"").nth(1).unwrap().split('"').next().unwrap();
    // SHA-256 of nothing.
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    std::fs::write(&manifest, text.replace(hash, empty)).unwrap();
    std::fs::write(folder.path().join("face-model.safetensors"), "").unwrap();
    says(&fails_with(4, "--engines", folder.path(), RUN), "is not a safetensors file");
}

#[test]
fn libraries_and_models_that_are_missing_are_4() {
    let folder = tempfile::tempdir().unwrap();
    for place in [Path::new("/nonexistent"), folder.path()] {
        let mut command = command(RUN.split_whitespace());
        command.env("MMFACE_OPENVINO", place);
        says(Running::start(command).finish().failure(4), "make setup");
    }
    let garbage = folder.path().join("garbage.onnx");
    std::fs::write(&garbage, "no network").unwrap();
    says(&fails_with(4, "--detector-model", &garbage, RUN), "make setup");
    says(&fails_with(4, "--detector-model", Path::new("/nonexistent"), RUN), "make setup");
    // A library that is none.
    std::fs::write(folder.path().join("libopenvino_c.so.1"), "no library").unwrap();
    let mut command = command(RUN.split_whitespace());
    command.env("MMFACE_OPENVINO", folder.path());
    says(Running::start(command).finish().failure(4), "cannot be loaded");
}

#[test]
fn a_device_that_is_not_there_is_5() {
    if mmface::backend::tensorrt::gpu().is_ok() {
        println!("skipped: there is a GPU here");
        return;
    }
    says(&fails(5, "--pipeline videotestsrc --device cuda"), "--device cpu");
}

#[test]
fn an_output_that_cannot_be_written_is_6() {
    let nowhere = Path::new("/nonexistent/faces");
    says(&fails_with(6, "--json", nowhere, RUN), "--json");
    says(&fails_with(6, "--json", Path::new("/tmp"), RUN), "/tmp");
    says(&fails_with(6, "--json", Path::new("/dev/full"), RUN), "/dev/full");
    says(&fails_with(6, "--overlay", &nowhere.with_extension("mp4"), RUN), "faces.mp4");
    let mut headless = command(format!("{RUN} --overlay window").split_whitespace());
    headless.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    says(Running::start(headless).finish().failure(6), "no screen");
}

/// What is full only shows while it is written to.
#[test]
fn a_disk_that_fills_up_is_6() {
    let folder = tempfile::tempdir().unwrap();
    let overlay = folder.path().join("drawn.mp4");
    std::os::unix::fs::symlink("/dev/full", &overlay).unwrap();
    let mut program = Running::start(command([
        "--pipeline",
        "videotestsrc num-buffers=200",
        "--overlay",
        overlay.to_str().unwrap(),
    ]));
    let is_end = |record: &Record| matches!(record, Record::End(_));
    program.read_until(is_end);
    says(program.finish().failure(6), "drawn.mp4: the disk is full");

    let full = || std::fs::File::create("/dev/full").unwrap();
    for line in ["schema", "--pipeline videotestsrc"] {
        let mut command = command(line.split_whitespace());
        command.stdout(full());
        assert_eq!(exit_code(command), Some(6), "{line}");
    }
    // What is said in passing is no reason to end.
    let mut short = command(["--pipeline", "videotestsrc num-buffers=3"]);
    short.stdout(std::process::Stdio::null()).stderr(full());
    assert_eq!(exit_code(short), Some(0));
}

#[test]
fn an_overlay_of_no_known_kind_is_2() {
    for name in ["drawn.txt", "drawn", "drawn.mp4.bak"] {
        says(&fails(2, &format!("{RUN} --overlay {name}")), ".mp4");
        assert!(!root().join(name).exists());
    }
}

#[test]
fn nothing_is_written_over_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let (source, linked) = (folder.path().join("mine.jpg"), folder.path().join("other.jpg"));
    std::fs::copy(clip("single_face.jpg"), &source).unwrap();
    std::fs::hard_link(&source, &linked).unwrap();
    let detour = folder.path().join(".").join("mine.jpg");
    for flag in ["--json", "--overlay"] {
        for (input, path) in [("--file", &*source), ("--images", folder.path())] {
            for output in [&detour, &linked] {
                let done = run([Path::new(input), path, Path::new(flag), output]);
                says(done.failure(2), "would write over the source");
            }
        }
    }
    assert_eq!(std::fs::read(&source).unwrap(), std::fs::read(clip("single_face.jpg")).unwrap());
}

/// Whatever flag it was given to, and whoever complains.
#[test]
fn no_password_is_shown() {
    let (url, secret) = ("rtsp://admin:Tr0ub4dor&3@10.0.0.9/s", "Tr0ub4dor");
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.toml");
    std::fs::write(&broken, format!("rtsp = \"{url}\"\nfaces = \"{url}\"\n")).unwrap();
    let wrong = folder.path().join("wrong.toml");
    std::fs::write(&wrong, format!("file = \"{url}\"\n")).unwrap();
    let picture = clip("astronaut.png");
    let picture = picture.to_str().unwrap();
    let mut lines: Vec<Vec<&str>> = vec![
        vec![url],
        vec!["view", url],
        vec!["eval", url],
        vec!["doctor", url],
        vec!["engines", "build", "--variant", url],
        vec!["--config", broken.to_str().unwrap()],
        vec!["--config", wrong.to_str().unwrap()],
        vec!["--file", "admin:Tr0ub4dor&3@10.0.0.9"],
        vec!["--file", "rtsp:/admin:Tr0ub4dor&3@10.0.0.9"],
        vec!["--file", "rtsp://admin:Tr0ub4dor and more@10.0.0.9"],
        vec!["--file", picture, "--stream", url],
    ];
    let sources = ["--file", "--camera", "--images", "--pipeline", "--config", "--faces", "--frob"];
    lines.extend(sources.map(|flag| vec![flag, url]));
    let outputs = ["--json", "--overlay", "--report", "--mesh", "--volume-out"];
    let others = ["--engines", "--detector-model", "--variant", "--smooth"];
    let flags = outputs.into_iter().chain(others);
    lines.extend(flags.map(|flag| vec!["--file", picture, flag, url]));
    for line in lines {
        let done = run(&line);
        let said = [&*String::from_utf8_lossy(&done.stdout), &done.stderr].concat();
        assert!(!said.contains(secret), "{line:?}: {said}");
        assert!(!line.contains(&"--stream") || said.contains("admin:***@10.0.0.9"), "{said}");
        assert_eq!(done.code == Some(0), line.contains(&"--stream"), "{line:?}: {said}");
    }
    assert!(!root().join("rtsp:").exists(), "no folder is made of a URL");
}

#[test]
fn what_never_ends_is_not_read() {
    for (flag, code) in [("--config", 2), ("--detector-model", 4)] {
        for device in ["/dev/zero", "/dev/urandom"] {
            let more = if flag == "--config" { "" } else { RUN };
            let sentence = fails_with(code, flag, Path::new(device), more);
            says(&sentence, "it is a device and no file");
            says(&sentence, device);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large.toml");
    std::fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    says(&fails_with(2, "--config", &large, ""), "the most that is read of it");
    says(&fails_with(4, "--detector-model", &large, RUN), "the most that is read of it");
    for name in ["manifest.toml", "face-model.safetensors", "mmface-lite/vmn-int8.onnx"] {
        let engines = engines();
        let path = engines.path().join(name);
        std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        let sentence = fails_with(4, "--engines", engines.path(), RUN);
        says(&sentence, "the most that is read of it");
        says(&sentence, name);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        says(&fails_with(4, "--engines", engines.path(), RUN), "it is a device and no file");
    }
    let done = run(["eval", "/dev/zero"]);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    let done = run([Path::new("eval"), &clip(""), Path::new("--only"), Path::new("/dev/zero")]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
}
