//! Several streams of one process.

use std::collections::BTreeMap;
use std::path::Path;

use mmface::record::Record;

use crate::common::clip;
use crate::common::program::{Records, Running, command, records, run};

/// A configuration in a folder of its own, and arguments that name it.
fn configuration(folder: &Path, text: &str) -> [String; 2] {
    let path = folder.join("streams.toml");
    std::fs::write(&path, text).unwrap();
    ["--config".into(), path.display().to_string()]
}

/// A `[[stream]]` table of a clip, with further lines.
fn table(name: &str, of_clip: &str, lines: &str) -> String {
    let file = clip(of_clip);
    format!("[[stream]]\nname = \"{name}\"\nfile = \"{}\"\n{lines}\n", file.display())
}

/// Lines of several streams, told apart by their names; each stream's lines are a whole run.
fn apart(lines: &[u8]) -> BTreeMap<String, Records> {
    let mut streams = BTreeMap::<String, Vec<u8>>::new();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let value: serde_json::Value = serde_json::from_slice(line).expect("a whole line");
        let name = value["stream"].as_str().unwrap().to_owned();
        streams.entry(name).or_default().extend(line);
    }
    streams.into_iter().map(|(name, lines)| (name, Records::read(&lines))).collect()
}

/// All faces with all of their parameters.
fn faces(records: &Records) -> Vec<String> {
    records.faces().map(|face| serde_json::to_string(face).unwrap()).collect()
}

#[test]
fn each_stream_gives_what_it_gives_alone() {
    let folder = tempfile::tempdir().unwrap();
    let alone = records(["--file", clip("single_face.mp4").to_str().unwrap()]);
    let own = folder.path().join("own.jsonl");
    let text = table("one", "single_face.mp4", "")
        + &table("two", "no_face.mp4", "")
        + &table("three", "single_face.mp4", &format!("json = \"{}\"", own.display()));
    let done = run(configuration(folder.path(), &text));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let together = apart(&done.stdout);
    assert_eq!(together.keys().collect::<Vec<_>>(), ["one", "two"]);
    let own = Records::read(&std::fs::read(own).unwrap());
    assert!(faces(&alone).len() > 60);
    assert_eq!(faces(&together["one"]), faces(&alone));
    assert_eq!(faces(&own), faces(&alone));
    assert_eq!(together["two"].frames.len(), 96);
}

#[test]
fn streams_share_a_file_line_by_line_and_a_bad_one_ends_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (bad, all) = (folder.path().join("bad.mp4"), folder.path().join("all.jsonl"));
    std::fs::write(&bad, b"this is no video").unwrap();
    let text = format!("json = \"{}\"\nlandmarks = true\n", all.display())
        + &table("one", "single_face.mp4", "")
        + &table("two", "single_face.mp4", "landmarks = true\nfaces = 1")
        + &format!("[[stream]]\nname = \"bad\"\nfile = \"{}\"\n", bad.display());
    let done = run(configuration(folder.path(), &text));
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert!(done.stderr.contains("stream{name=\"bad\"}"), "{}", done.stderr);
    let lines = std::fs::read(&all).unwrap();
    let together = apart(&lines);
    assert_eq!(together.keys().collect::<Vec<_>>(), ["bad", "one", "two"]);
    for name in ["one", "two"] {
        assert_eq!(together[name].frames.len(), 72);
        assert!(together[name].faces().all(|face| face.landmarks.is_some()));
    }
}

/// Lines with all vertices are longer than what a pipe takes at once.
#[test]
fn long_lines_of_several_streams_are_not_torn() {
    let folder = tempfile::tempdir().unwrap();
    let text = "vertices = true\n".to_string()
        + &table("one", "single_face.mp4", "")
        + &table("two", "single_face.mp4", "");
    let done = run(configuration(folder.path(), &text));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let streams = apart(&done.stdout);
    assert_eq!(faces(&streams["one"]), faces(&streams["two"]));
    assert_eq!(streams["one"].frames.len(), 72);
}

#[test]
fn a_new_list_ends_and_starts_streams_and_leaves_the_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    let live = "realtime = true";
    // `one` lasts long enough for everything here.
    let one = table("one", "WolfgangLanger_Pexels.mp4", live);
    let arguments = configuration(
        folder.path(),
        &(one.clone() + &table("two", "WolfgangLanger_Pexels.mp4", live)),
    );
    let mut running = Running::start(command(&arguments));
    let begun = |name: &'static str| move |record: &Record| matches!(record, Record::Frame(frame) if frame.stream == name);
    running.read_until(begun("one"));
    running.read_until(begun("two"));
    configuration(folder.path(), &(one + &table("three", "single_face.mp4", "")));
    running.signal("HUP");
    running.read_until(|record| matches!(record, Record::End(end) if end.stream == "two"));
    running.read_until(|record| matches!(record, Record::End(end) if end.stream == "three"));
    running.read_until(begun("one"));
    running.signal("TERM");
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let streams = apart(&done.stdout);
    assert_eq!(streams["three"].frames.len(), 72);
    assert_eq!(streams["two"].end.reason, "stopped");
    assert_eq!(streams["one"].streams.len(), 1, "the stream was not disturbed");
}

#[test]
fn a_new_list_that_is_wrong_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let text = table("one", "single_face.mp4", "realtime = true");
    let mut running = Running::start(command(configuration(folder.path(), &text)));
    running.read_until(|record| matches!(record, Record::Frame(_)));
    configuration(folder.path(), "[[stream]]\nfaces = \"many\"");
    running.signal("HUP");
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("the streams go on as they are"), "{}", done.stderr);
    assert_eq!(apart(&done.stdout)["one"].end.reason, "end of stream");
}
