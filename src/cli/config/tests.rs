use clap::Parser;

use super::*;
use crate::neutral;

fn arguments(line: &str) -> RunArgs {
    let words = std::iter::once("mmface-live").chain(line.split_whitespace());
    crate::cli::Cli::try_parse_from(words).expect("parses").run
}

fn config(line: &str) -> Result<Config> {
    Config::new(arguments(line))
}

/// Why a line is refused.
fn refused(line: &str) -> Error {
    config(line).err().unwrap_or_else(|| panic!("{line} is not refused"))
}

/// The names of the wanted sinks, with their files.
fn sinks(line: &str) -> Vec<(&'static str, Option<PathBuf>)> {
    let config = config(&format!("--file a.mp4 {line}")).expect("fits");
    let sinks = config.run.sinks.iter();
    sinks.map(|plan| (plan.name(), plan.file().map(Path::to_path_buf))).collect()
}

#[test]
fn one_source_is_needed() {
    assert!(config("--file a.mp4").is_ok());
    assert_eq!(refused("").exit_code(), 2);
    assert_eq!(refused("--file a.mp4 --camera 0").exit_code(), 2);
}

#[test]
fn flags_win_over_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.toml");
    std::fs::write(&path, "file = \"a.mp4\"\nfaces = 2\nlandmarks = true\nsmooth = \"off\"\n")
        .expect("written");
    let line = format!("--config {} --camera 1 --faces 7", path.display());
    let run = config(&line).expect("fits").run;
    assert_eq!(run.source.input, Input::Camera("1".into()));
    assert_eq!((run.tracker.faces, run.tracker.smoothing), (7, Strength::Off));
    let merged = arguments(&line).over(read(&path).expect("is read"));
    assert!(merged.landmarks && !merged.vertices);
}

#[test]
fn a_camera_is_a_number_or_a_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.toml");
    let camera = |text: &str| {
        std::fs::write(&path, format!("camera = {text}\n")).expect("written");
        config(&format!("--config {}", path.display())).map(|config| config.run.source.input)
    };
    assert_eq!(camera("1").expect("fits"), Input::Camera("1".into()));
    assert_eq!(camera("\"/dev/video1\"").expect("fits"), Input::Camera("/dev/video1".into()));
    assert!(camera("true").expect_err("no camera").to_string().contains("number or device path"));
}

#[test]
fn a_configuration_is_not_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.toml");
    std::fs::write(&path, format!("file = \"a.mp4\"\njson = {path:?}\n")).expect("written");
    let error = refused(&format!("--config {}", path.display()));
    assert!(error.to_string().contains("--json would write over the configuration"), "{error}");
}

#[test]
fn a_wrong_key_is_named_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.toml");
    std::fs::write(&path, "faces = 2\nfcaes = 3\n").expect("written");
    let error = refused(&format!("--config {}", path.display()));
    assert!(error.to_string().contains("line 2") && error.to_string().contains("fcaes"));
}

#[test]
fn absurd_numbers_are_refused() {
    for line in [
        "--faces 0",
        "--faces 1000",
        "--detect-size 9",
        "--detect-every 0",
        "--reidentify -1",
        "--threads 0",
        "--max-fps 0",
        "--max-fps nan",
        "--fov 180",
        "--focal 0",
        "--focal exif",
        "--fov 60 --focal 900",
    ] {
        assert_eq!(refused(&format!("--file a {line}")).exit_code(), 2);
    }
}

#[test]
fn outputs_do_not_write_over_each_other() {
    assert!(config("--file a.mp4 --overlay a.mp4").is_err());
    assert!(config("--file a.mp4 --overlay b.mp4 --json ./b.mp4").is_err());
    assert!(config("--file a.mp4 --overlay b.mp4 --json c --report ./c").is_err());
    assert!(config("--file a.mp4 --overlay b.mp4 --json /dev/null").is_ok());
    assert!(config("--file a.mp4 --overlay b.mp4 --json -").is_ok());
    assert!(config("--file a.mp4 --mesh b.glb --json ./b.glb").is_err());
}

#[test]
fn meshes_go_to_folders_and_animations_to_files() {
    for line in ["--mesh out", "--mesh out --mesh-format ply"] {
        assert_eq!(sinks(line), [("records", None), ("meshes", None)]);
    }
    let animation = ("animation", Some("a.GLB".into()));
    assert_eq!(sinks("--mesh a.GLB"), [("records", None), animation]);
    for line in [
        "--mesh a.obj",
        "--mesh a.glb --mesh-format obj",
        "--mesh a.glb --mesh-from volume",
        "--mesh-from volume",
        "--mesh-format glb",
    ] {
        assert_eq!(refused(&format!("--file a.mp4 {line}")).exit_code(), 2);
    }
    assert_eq!(refused("--images a --mesh a.glb").exit_code(), 2);
}

#[test]
fn volumes_are_computed_where_something_asks() {
    let volume = |line: &str| {
        let config = config(&format!("--file a.mp4 {line}")).expect("fits");
        assert_eq!(config.run.tracker.volumes, config.runtime.volume.is_some());
        (config.run.volumes.is_some(), config.runtime.volume)
    };
    assert_eq!(volume("--mesh out"), (false, None));
    assert_eq!(volume("--volume 128"), (false, None));
    assert_eq!(volume("--volume-out out"), (true, None));
    assert_eq!(volume("--volume-out out --volume-from network"), (true, Some(64)));
    assert_eq!(volume("--volume-out out --refine icp"), (true, Some(64)));
    assert_eq!(volume("--refine icp"), (true, Some(64)));
    assert_eq!(volume("--overlay a.png --overlay-style volume"), (true, Some(64)));
    assert_eq!(volume("--overlay a.png --overlay-style depth"), (false, None));
    assert_eq!(volume("--refine off"), (false, None));
    assert_eq!(volume("--mesh out --mesh-from volume --volume 192"), (true, Some(192)));
    assert_eq!(volume("--mesh out --mesh-from volume --volume-from model"), (true, None));
}

#[test]
fn every_shipped_configuration_is_understood() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("pipelines/") {
        let path = entry.expect("an entry").path();
        read(&path).unwrap_or_else(|e| panic!("{e}"));
        count += 1;
    }
    assert!(count >= 3);
}

/// Why a configuration with `[[stream]]` tables is refused.
fn refused_list(text: &str, flags: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.toml");
    std::fs::write(&path, text).expect("written");
    let line = format!("--config {} {flags}", path.display());
    match crate::cli::Job::new(arguments(&line)) {
        Ok(_) => panic!("{text} is not refused"),
        Err(error) => {
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        }
    }
}

#[test]
fn what_a_list_of_streams_may_not_say_is_named() {
    let two = "[[stream]]\nname = \"a\"\ncamera = 0\n[[stream]]\nname = \"b\"\ncamera = 1\n";
    let with = |line: &str| format!("{line}\n{two}");
    let inside = |line: &str| format!("{two}{line}\n");
    for (text, flags, why) in [
        (inside("threads = 1"), "", "threads holds for all streams"),
        (inside("smoooth = \"off\""), "", "line 7: unknown field `smoooth`"),
        (inside("name = \"a\"").replace("name = \"b\"\n", ""), "", "two streams are called a"),
        (inside("[[stream.stream]]"), "", "duplicate"),
        (with("camera = 2"), "", "a source stands above"),
        (with("overlay = \"x.mp4\""), "", "overlay would be one file"),
        (with("vmc = true"), "", "vmc would move one avatar"),
        (inside("vmc = [1]"), "", "line 7: expected true, a port, or"),
        (with("json = \"r\"") + "json = \"r\"\n", "", "two --json name the same file r"),
        (two.into(), "--camera 3", "leave out --camera"),
        ("stream = []".into(), "", "there is no [[stream]]"),
        (two.replace("camera = 1", ""), "", "name a source"),
    ] {
        let error = refused_list(&text, flags);
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn what_stands_above_the_streams_holds_for_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.toml");
    let text = "faces = 2\nthreads = 1\n[[stream]]\nname = \"a\"\ncamera = 0\n\
                [[stream]]\ncamera = 1\nfaces = 3\nrefine = \"icp\"\n";
    std::fs::write(&path, text).expect("written");
    let line = format!("--config {} --smooth off", path.display());
    let Ok(crate::cli::Job::Many(streams)) = crate::cli::Job::new(arguments(&line)) else {
        panic!("not several streams");
    };
    let seen = streams.streams.iter().map(|(_, run)| {
        (run.stream.as_str(), run.tracker.faces, run.tracker.refine, run.tracker.smoothing)
    });
    let off = Strength::Off;
    assert_eq!(seen.collect::<Vec<_>>(), [("a", 2, false, off), ("/dev/video1", 3, true, off)]);
    assert_eq!((streams.runtime.threads, streams.runtime.volume), (Some(1), Some(VOLUME)));
}

#[test]
fn waiting_has_an_end_or_none() {
    let wait =
        |line: &str| config(&format!("--rtsp rtsp://cam/1 {line}")).expect("fits").run.source.wait;
    assert_eq!(wait(""), None);
    assert_eq!(wait("--wait forever"), Some(Wait::Forever));
    assert_eq!(wait("--wait 2.5"), Some(Wait::For(Duration::from_millis(2500))));
    assert_eq!(wait("--wait 0"), Some(Wait::For(Duration::ZERO)));
    assert_eq!(refused("--rtsp rtsp://cam/1 --wait -1").exit_code(), 2);
    let of_file = |text: &str| parse(text, Path::new("x.toml")).map(|args| args.wait);
    assert_eq!(of_file("wait = 30").expect("a number"), Some(WaitArg::Seconds(30.0)));
    assert_eq!(of_file("wait = \"forever\"").expect("a word"), Some(WaitArg::Forever));
    assert!(of_file("wait = \"long\"").is_err());
}

#[test]
fn senders_of_avatars_are_asked_for_by_flag_or_key() {
    let names = |config: Config| -> Vec<_> { config.run.sinks.iter().map(|s| s.name()).collect() };
    let of = |line: &str| names(config(&format!("--camera 0 {line}")).expect("fits"));
    assert_eq!(of("--vmc"), ["records", "vmc"]);
    assert_eq!(of("--vmc --live-link 192.168.0.7 --mirror"), ["records", "vmc", "live-link"]);
    assert_eq!(of("--vts ws://pc:8002/ --vmc-shapes vrm0 --vmc"), ["records", "vmc", "vts"]);
    let all = "--opentrack 4243 --openseeface [::1]:99 --ifacialmocap pc:5 --avatar-face center";
    assert_eq!(of(all), ["records", "ifacialmocap", "openseeface", "opentrack"]);
    for (line, why) in [
        ("--mirror", "add --vmc"),
        ("--avatar-face 3", "add --vmc"),
        ("--predict 20", "add --vmc"),
        ("--vmc --predict 900", "--predict 900 is not within 0 to 500"),
        ("--live-link --vmc-per-face", "add --vmc"),
        ("--vmc --vmc-per-face --avatar-face 2", "leave one out"),
        ("--vts-parameters arkit", "add --vts"),
        ("--vts wss://pc", "write ws://HOST:PORT"),
        ("--calibrate 2", "--neutral auto"),
        ("--vmc --calibrate -2", "--calibrate -2 is not within 0 to 3600"),
        ("--vmc 0", "--vmc: 0 is no port"),
        ("--vmc http://pc", "--vmc: http://pc is no address"),
        ("--vmc --avatar-face tallest", "--avatar-face tallest is no face"),
        ("--vmc --avatar-rest -1", "--avatar-rest -1 is not within 0 to 3600"),
        ("--vmc --avatar nowhere.toml", "--avatar: "),
    ] {
        let error = refused(&format!("--camera 0 {line}"));
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(why), "{line}: {error}");
    }
}

#[test]
fn neutral_faces_are_learnt_for_avatars_of_live_sources() {
    let source = |line: &str| config(line).expect("fits").run.neutral.source;
    assert_eq!(source("--camera 0"), neutral::Source::Off);
    assert_eq!(source("--camera 0 --vmc"), neutral::Source::Auto);
    assert_eq!(source("--camera 0 --vmc --neutral off"), neutral::Source::Off);
    assert_eq!(source("--camera 0 --neutral auto"), neutral::Source::Auto);
    assert_eq!(source("--camera 0 --neutral me.toml"), neutral::Source::File("me.toml".into()));
    assert_eq!(
        config("--camera 0 --vmc --calibrate 3").expect("fits").run.neutral.after,
        Some(3.0)
    );
}

#[test]
fn keys_of_avatars_are_short() {
    let read = |text: &str| parse(text, Path::new("x.toml")).expect(text);
    let args = read(
        "vmc = true\nlive-link = false\nopentrack = 4243\nopenseeface = \"pc\"\navatar-face = 3",
    );
    let texts = [args.vmc, args.live_link, args.opentrack, args.openseeface, args.avatar_face];
    let texts: Vec<_> = texts.iter().map(Option::as_deref).collect();
    assert_eq!(texts, [Some(""), None, Some("4243"), Some("pc"), Some("3")]);
}
