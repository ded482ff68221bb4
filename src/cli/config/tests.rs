use super::*;
use clap::Parser;

fn config(line: &str) -> Result<Config> {
    let words = std::iter::once("mmface-live").chain(line.split_whitespace());
    Config::new(crate::cli::Cli::try_parse_from(words).expect("parses").run)
}

#[test]
fn one_source_is_needed() {
    assert!(config("--file a.mp4").is_ok());
    assert_eq!(config("").expect_err("none").exit_code(), 2);
    assert_eq!(config("--file a.mp4 --camera 0").expect_err("two").exit_code(), 2);
}

#[test]
fn flags_win_over_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.toml");
    std::fs::write(&path, "file = \"a.mp4\"\nfaces = 2\nlandmarks = true\nsmooth = \"off\"\n")
        .expect("written");
    let line = format!("--config {} --camera 1 --faces 7", path.display());
    let config = config(&line).expect("fits");
    assert_eq!(config.source.input, Input::Camera("1".into()));
    assert_eq!((config.faces, config.landmarks), (7, true));
    assert_eq!(config.smooth, Strength::Off);
}

#[test]
fn a_camera_is_a_number_or_a_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.toml");
    let camera = |text: &str| {
        std::fs::write(&path, format!("camera = {text}\n")).expect("written");
        config(&format!("--config {}", path.display())).map(|config| config.source.input)
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
    let error = config(&format!("--config {}", path.display())).expect_err("the same file");
    assert!(error.to_string().contains("--json would write over the configuration"), "{error}");
}

#[test]
fn a_wrong_key_is_named_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.toml");
    std::fs::write(&path, "faces = 2\nfcaes = 3\n").expect("written");
    let error = config(&format!("--config {}", path.display())).expect_err("a wrong key");
    assert!(error.to_string().contains("line 2") && error.to_string().contains("fcaes"));
}

#[test]
fn absurd_numbers_are_refused() {
    for line in ["--faces 0", "--faces 1000", "--detect-size 9", "--detect-every 0", "--threads 0"]
    {
        assert_eq!(config(&format!("--file a {line}")).expect_err(line).exit_code(), 2);
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
    use sink::meshes::Target;
    let mesh = |line: &str| config(&format!("--file a.mp4 {line}")).map(|c| c.mesh);
    let folder = |format| Some(Target::Folder("out".into(), format));
    assert_eq!(mesh("--mesh out").expect("fits"), folder(crate::mesh::Format::Glb));
    let ply = mesh("--mesh out --mesh-format ply").expect("fits");
    assert_eq!(ply, folder(crate::mesh::Format::Ply));
    assert_eq!(mesh("--mesh a.GLB").expect("fits"), Some(Target::Animation("a.GLB".into())));
    for line in
        ["--mesh a.obj", "--mesh a.glb --mesh-format obj", "--mesh a.glb --mesh-from volume"]
    {
        assert_eq!(mesh(line).expect_err(line).exit_code(), 2);
    }
    assert!(mesh("--mesh-from volume").is_err() && mesh("--mesh-format glb").is_err());
    assert!(config("--images a --mesh a.glb").is_err());
}

#[test]
fn volumes_are_computed_where_something_asks() {
    let volume = |line: &str| {
        let config = config(&format!("--file a.mp4 {line}")).expect("fits");
        (config.volumes.is_some(), config.nets.volume)
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
