//! Readers that are slow or rude cost nothing.

use std::io::Write;
use std::net::TcpStream;

use mmface::record::Record;

use super::{Watched, camera, metric, talk};
use crate::common::http::{Events, connect, get};

/// More than the server keeps at once.
const CONNECTIONS: usize = 300;
/// What the server keeps at once.
const MOST: f64 = 256.0;

/// Records with all vertices are long, so few of them fill what lies between server and reader.
#[test]
fn a_slow_reader_loses_records_and_is_told_how_many() {
    let mut watched = Watched::configured(
        &("vertices = true\n".to_string()
            + &camera("door", "")
            + &talk("talk", "realtime = true")
            + &talk("again", "")),
    );
    let mut slow = Events::open(watched.address, "/records");
    let mut quick = Events::open(watched.address, "/records?stream=talk");
    while quick.next().unwrap().1["type"] != "end" {}
    let mut ended = 0;
    watched.running.read_until(|record| {
        ended += u32::from(matches!(record, Record::End(_)));
        ended == 2
    });
    let lost = |page: &str| metric(page, "mmface_record_readers_dropped_total").unwrap();
    let before = lost(&watched.get("/metrics").body);
    assert!(before > 0.0, "nobody was slow");
    let (mut told, mut frames) = (0, 0);
    while told == 0 {
        let (name, data) = slow.next().unwrap();
        match name.as_str() {
            "dropped" => told += data["records"].as_u64().unwrap(),
            _ => frames += u32::from(data["type"] == "frame"),
        }
    }
    assert!(told as f64 >= before && frames > 0, "{told} of {before}");
    let done = watched.end();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let text = String::from_utf8(done.stdout).unwrap();
    let of_talk = |line: &&str| line.starts_with("{\"type\":\"frame\",\"stream\":\"again\"");
    assert_eq!(text.lines().filter(of_talk).count(), 72, "standard output has everything");
}

/// Connections that say nothing, or half of it.
fn hold(watched: &Watched, begun: &[u8]) -> Vec<TcpStream> {
    let one = || {
        let mut stream = connect(watched.address);
        stream.write_all(begun).unwrap();
        stream
    };
    (0..CONNECTIONS).map(|_| one()).collect()
}

#[test]
fn those_who_only_hold_connections_shut_nobody_out() {
    let mut watched = Watched::configured(&camera("door", ""));
    let open = || watched.metric("process_open_fds").unwrap();
    let mut reader = Events::open(watched.address, "/records");
    // Until then the run opens files of its own.
    while reader.next().unwrap().1["type"] != "frame" {}
    let before = open();
    let silent = hold(&watched, b"");
    assert_eq!(watched.get("/healthz").status, 200);
    assert!(open() - before <= MOST, "{} files are open, before {before}", open());
    drop(silent);
    let half = hold(&watched, b"GET /metrics HTTP/1.1\r\nHost: ");
    assert_eq!(watched.get("/healthz").status, 200);
    // The reader of records, who asked properly, was not put out.
    while reader.next().unwrap().1["type"] != "frame" {}
    drop((half, reader));
    watched.wait_until(|address| {
        metric(&get(address, "/metrics").body, "process_open_fds") < Some(before + 10.0)
    });
    assert_eq!(watched.end().code, Some(0));
}

#[test]
fn a_head_without_end_is_cut_off() {
    let watched = Watched::configured(&camera("door", ""));
    let mut stream = connect(watched.address);
    stream.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
    let junk = vec![b'x'; 64 << 10];
    // Ten megabytes, or as many as the server has patience for.
    let sent = (0..160).take_while(|_| stream.write_all(&junk).is_ok()).count();
    assert!(sent < 160, "it took all of it");
    let memory = watched.metric("process_resident_memory_bytes").unwrap();
    assert!(memory > 1e6);
    assert_eq!(watched.get("/healthz").status, 200);
    watched.end();
}

/// A reader that never reads does not keep the program from its end.
#[test]
fn a_reader_that_stands_still_does_not_hinder_the_end() {
    let mut watched = Watched::configured(
        &("vertices = true\n".to_string() + &camera("door", "") + &talk("talk", "")),
    );
    let _still = Events::open(watched.address, "/records");
    watched.running.read_until(|r| matches!(r, Record::End(end) if end.stream == "talk"));
    let done = watched.end();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(!done.stderr.contains("hangs"), "{}", done.stderr);
}
