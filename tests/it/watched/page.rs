//! The pages of `--listen`: what they say, and about whom.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use mmface::record::Record;

use super::{Watched, camera, metric, table, talk};
use crate::common::http::{Events, ask, get};
use crate::common::program::{Done, Records, run};
use crate::common::rtsp::{LIVE, RtspServer};
use crate::common::{clip, root};

/// The records of one stream among those of several.
fn records_of(done: &Done, stream: &str) -> Records {
    let lines = done.stdout.split_inclusive(|byte| *byte == b'\n');
    let is_of = |line: &&[u8]| {
        let value: serde_json::Value = serde_json::from_slice(line).unwrap();
        value["stream"] == stream
    };
    Records::read(&lines.filter(is_of).collect::<Vec<_>>().concat())
}

#[test]
fn pages_answer_get_and_nothing_else() {
    let mut watched = Watched::configured(&camera("door", ""));
    assert!(watched.address.ip().is_loopback());
    let start = watched.get("/");
    assert!(start.status == 200 && start.head.contains("text/html"), "{start:?}");
    assert!(start.head.contains("content-security-policy: default-src 'none'"), "{}", start.head);
    for page in ["/metrics", "/healthz", "/readyz", "/records", "/head.json"] {
        assert!(start.body.contains(&format!("href=\"{page}\"")), "{}", start.body);
    }
    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("GET /../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("GET /readyz/nobody HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("GET /records?stream=nobody HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        ("DELETE /records HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        ("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("HEAD /records HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("GET /records HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        ("GET /records HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 403),
        ("HEAD /live.js HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("nonsense\r\n\r\n", 400),
    ] {
        let answer = ask(watched.address, request);
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        assert!(answer.body.lines().count() <= 1, "one sentence: {}", answer.body);
        assert!(!answer.head.contains("access-control"), "{}", answer.head);
    }
    let refused = ask(watched.address, "PUT / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(refused.head.contains("allow: get, head"), "{}", refused.head);
    // Networks that still load are not waited for after a signal, which is exit code 6.
    watched.wait_until(|address| get(address, "/readyz").status == 200);
    assert_eq!(watched.end().code, Some(0));
}

#[test]
fn the_metrics_are_the_counters_of_the_end_record() {
    let mut watched = Watched::configured(&(talk("talk", "") + &camera("door", "")));
    watched.running.read_until(|r| matches!(r, Record::End(end) if end.stream == "talk"));
    watched.wait_until(|address| {
        let page = get(address, "/metrics").body;
        metric(&page, "mmface_stream_ended{stream=\"talk\"}") == Some(1.0)
    });
    let page = watched.get("/metrics").body;
    let plain = ask(watched.address, "GET /metrics HTTP/1.0\r\n\r\n");
    assert!(plain.head.contains("text/plain; version=0.0.4"), "{}", plain.head);
    let open = ask(
        watched.address,
        "GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n",
    );
    assert!(open.head.contains("application/openmetrics-text; version=1.0.0"), "{}", open.head);
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
    assert_eq!(watched.metric("mmface_stream_up{stream=\"door\"}"), Some(1.0));
    let done = watched.end();
    assert_eq!(done.code, Some(0), "{}", done.stderr);

    let end = records_of(&done, "talk").end;
    assert!(end.frames.processed > 60 && end.faces > 0);
    let of = |name: &str| metric(&page, &format!("{name}{{stream=\"talk\"}}"));
    let dropped = |cause: &str| {
        let name = format!("mmface_frames_dropped_total{{stream=\"talk\",cause=\"{cause}\"}}");
        metric(&page, &name)
    };
    assert_eq!(of("mmface_frames_decoded_total"), Some(end.frames.decoded as f64));
    assert_eq!(of("mmface_frames_processed_total"), Some(end.frames.processed as f64));
    assert_eq!(of("mmface_reconnects_total"), Some(end.reconnects.into()));
    assert_eq!(of("mmface_face_ids_total"), Some(end.faces as f64));
    assert_eq!(dropped("busy"), Some(end.frames.dropped.busy as f64));
    assert_eq!(dropped("damaged"), Some(end.frames.dropped.damaged as f64));
    assert_eq!(dropped("lost"), Some(end.frames.dropped.lost as f64));
    let count = of("mmface_capture_to_record_seconds_count");
    assert_eq!(count, Some(end.frames.processed as f64));
    assert_eq!(of("mmface_stream_up"), Some(0.0));
}

/// The buckets count what the frame records say.
#[test]
fn the_histogram_has_the_latencies_of_the_records() {
    let mut watched = Watched::configured(&(talk("talk", "") + &camera("door", "")));
    watched.running.read_until(|r| matches!(r, Record::End(end) if end.stream == "talk"));
    let page = watched.get("/metrics").body;
    let done = watched.end();
    let frames = records_of(&done, "talk").frames;
    let latencies: Vec<_> = frames.iter().map(|f| f.latency_ms.capture_to_record / 1e3).collect();
    for limit in ["0.005", "0.01", "0.05", "0.1", "0.5", "1", "10", "+Inf"] {
        let bound: f64 = limit.parse().unwrap();
        let name =
            format!("mmface_capture_to_record_seconds_bucket{{stream=\"talk\",le=\"{limit}\"}}");
        let found = metric(&page, &name).unwrap_or_else(|| panic!("no {name} in {page}"));
        // Records are rounded.
        let (least, most) = (bound * 0.999, bound * 1.001);
        let within = |most: f64| latencies.iter().filter(|l| **l <= most).count() as f64;
        assert!((within(least)..=within(most)).contains(&found), "{found} within {limit}");
    }
    let sum = metric(&page, "mmface_capture_to_record_seconds_sum{stream=\"talk\"}").unwrap();
    let expected: f64 = latencies.iter().sum();
    assert!((sum / expected - 1.0).abs() < 1e-3, "{sum} for {expected}");
}

#[test]
fn names_of_streams_cannot_break_the_page() {
    let watched = Watched::start(&[
        "--file",
        clip("no_face.mp4").to_str().unwrap(),
        "--realtime",
        "--stream",
        "a \"b\"\\c\nd",
    ]);
    let name = "mmface_frames_processed_total{stream=\"a \\\"b\\\"\\\\c\\nd\"}";
    assert!(watched.metric(name).is_some(), "{}", watched.get("/metrics").body);
    let encoded = watched.get("/readyz/a%20%22b%22%5Cc%0Ad");
    assert_eq!(encoded.json()["stream"], "a \"b\"\\c\nd");
    watched.end();
}

#[test]
fn health_is_told_for_each_stream() {
    let server = RtspServer::start(LIVE, 0, Some(("me", "s3cret")));
    let rtsp = |name: &str, port: u16| {
        table(name, &format!("rtsp = \"rtsp://me:s3cret@127.0.0.1:{port}/live\"\nsilence = 0.5"))
    };
    // Nobody listens on a port that was just given back.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut watched =
        Watched::configured(&(rtsp("good", server.port()) + &rtsp("dead one", nobody)));
    watched.wait_until(|address| get(address, "/readyz/good").status == 200);
    watched.wait_until(|address| {
        ["down", "failed"]
            .contains(&get(address, "/readyz/dead%20one").json()["state"].as_str().unwrap())
    });
    let all = watched.get("/readyz");
    let dead = watched.get("/readyz/dead%20one");
    assert_eq!((all.status, dead.status), (503, 503), "{all:?} {dead:?}");
    assert_eq!(all.json()["ready"], false);
    let streams = all.json()["streams"].clone();
    assert_eq!((&streams[0]["stream"], &streams[0]["state"]), (&"good".into(), &"up".into()));
    assert!(
        streams[0]["last_frame_age_seconds"].as_f64().is_some() && streams[0]["reason"].is_null()
    );
    assert!(dead.json()["reason"].as_str().unwrap().contains("cannot be reached"), "{dead:?}");
    assert!(
        dead.json()["since"].as_str().unwrap().ends_with('Z')
            && dead.json()["last_frame_age_seconds"].is_null()
    );
    let health = watched.get("/healthz");
    assert_eq!((health.status, &health.json()["healthy"]), (200, &true.into()));
    assert_eq!(watched.metric("mmface_stream_up{stream=\"good\"}"), Some(1.0));
    assert_eq!(watched.metric("mmface_stream_up{stream=\"dead one\"}"), Some(0.0));

    // The good one is lost, and says why.
    drop(server);
    watched.wait_until(|address| get(address, "/readyz/good").status == 503);
    let lost = watched.get("/readyz/good").json();
    assert!(lost["state"] == "down" && lost["reason"].is_string(), "{lost}");
    assert!(lost["last_frame_age_seconds"].as_f64().is_some());
    let said = [watched.get("/readyz").body, watched.get("/metrics").body, watched.log()].concat();
    assert!(!said.contains("s3cret"), "{said}");
    watched.end();
}

#[test]
fn counters_go_on_when_the_list_is_read_again() {
    let mut watched = Watched::configured(&(camera("door", "") + &camera("garden", "")));
    let processed = |name: &str| format!("mmface_frames_processed_total{{stream=\"{name}\"}}");
    let more_than = |name: &str, least: f64| {
        let name = processed(name);
        move |address: SocketAddr| metric(&get(address, "/metrics").body, &name) > Some(least)
    };
    watched.wait_until(more_than("door", 9.0));
    watched.wait_until(more_than("garden", 0.0));
    let garden = watched.metric(&processed("garden")).unwrap();
    // The door's stream begins again, the garden's is left out.
    watched.reconfigure(&camera("door", "faces = 1"));
    watched.running.read_until(|r| matches!(r, Record::End(end) if end.stream == "garden"));
    let mut last = 0.0;
    while last < 60.0 {
        let now = watched.metric(&processed("door")).unwrap();
        assert!(now >= last, "{now} after {last}");
        last = now;
    }
    let page = watched.get("/metrics").body;
    assert!(metric(&page, &processed("garden")) >= Some(garden), "{page}");
    assert_eq!(metric(&page, "mmface_stream_up{stream=\"garden\"}"), None, "nobody wants it");
    assert_eq!(watched.get("/readyz").status, 200);
    assert_eq!(watched.get("/readyz/garden").status, 404);
    let total = watched.metric(&processed("door")).unwrap();
    let done = watched.end();
    let ends: Vec<_> = done
        .stdout
        .split_inclusive(|byte| *byte == b'\n')
        .filter_map(|line| match serde_json::from_slice(line).unwrap() {
            Record::End(end) if end.stream == "door" => Some(end.frames.processed),
            _ => None,
        })
        .collect();
    assert_eq!(ends.len(), 2);
    assert!(ends.iter().sum::<u64>() as f64 >= total && ends[0] as f64 <= total);
}

#[test]
fn readers_get_the_records_of_standard_output() {
    let mut watched = Watched::configured(&(camera("door", "") + &camera("garden", "")));
    let is_frame_of =
        |name: &'static str| move |r: &Record| matches!(r, Record::Frame(f) if f.stream == name);
    watched.running.read_until(is_frame_of("door"));
    watched.running.read_until(is_frame_of("garden"));
    let mut all = Events::open(watched.address, "/records");
    let mut door = Events::open(watched.address, "/records?stream=door");
    let mut next = || door.next().unwrap().1;
    let (header, stream) = (next(), next());
    assert_eq!((&header["type"], &stream["type"]), (&"header".into(), &"stream".into()));
    assert!(header["face_model"]["expressions"].is_array());
    let mut frames: Vec<_> = (0..10).map(|_| next()).collect();
    let begun: BTreeSet<_> = (0..4).map(|_| all.next().unwrap().1["stream"].to_string()).collect();
    assert_eq!(begun.len(), 2);
    watched.running.signal("TERM");
    frames.extend(std::iter::from_fn(|| door.next().map(|(_, data)| data)));
    let rest: Vec<_> = std::iter::from_fn(|| all.next().map(|(_, data)| data)).collect();
    let done = watched.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let end = frames.pop().unwrap();
    assert_eq!((&end["type"], &end["stream"]), (&"end".into(), &"door".into()));
    let first = frames[0]["frame"].as_u64().unwrap();
    let written: Vec<serde_json::Value> = done
        .stdout
        .split_inclusive(|b| *b == b'\n')
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    let expected: Vec<_> = written
        .iter()
        .filter(|r| r["stream"] == "door" && r["frame"].as_u64().is_some_and(|n| n >= first))
        .collect();
    assert_eq!(frames.iter().collect::<Vec<_>>(), expected);
    assert!(rest.iter().any(|r| r["type"] == "end" && r["stream"] == "garden"));
}

#[test]
fn addresses_of_every_kind_are_served_or_refused_in_a_sentence() {
    let file = clip("no_face.mp4");
    let file = file.to_str().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let done = run(["--file", file, "--listen", &taken]);
    assert!(done.failure(2).contains("another program listens there"), "{}", done.stderr);
    assert!(done.stdout.is_empty(), "nothing was begun");
    for wrong in ["door", "1:2:3", "192.0.2.1:0"] {
        let done = run(["--file", file, "--listen", wrong]);
        assert!(done.failure(2).contains("--listen"), "{}", done.stderr);
    }
    let done = run(["--file", file, "--listen", "0.0.0.0:0"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("can read the records"), "{}", done.stderr);
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        let done = run(["--file", file, "--listen", "[::1]:0"]);
        assert!(done.code == Some(0) && done.stderr.contains("http://[::1]:"), "{}", done.stderr);
    }
}

/// The table in the documentation has every name on the page, and no other; so have the dashboard
/// and the alerts, as far as they name any.
#[test]
fn documentation_dashboard_and_alerts_name_what_there_is() {
    let mut watched = Watched::configured(&camera("door", ""));
    watched.running.read_until(|record| matches!(record, Record::Frame(_)));
    let page = watched.get("/metrics").body;
    watched.end();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let there: BTreeSet<_> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let names = |text: &'static str| {
        text.split(|c| !is_part(c))
            .filter(|word| word.starts_with("mmface_") || word.starts_with("process_"))
    };
    let read =
        |path: &str| -> &'static str { std::fs::read_to_string(root().join(path)).unwrap().leak() };
    let without_suffix = |name: &'static str| name.strip_suffix("_bucket").unwrap_or(name);
    for path in ["scripts/service/alerts.yml", "scripts/service/dashboard.json"] {
        let named: BTreeSet<_> = names(read(path)).map(without_suffix).collect();
        assert!(named.len() > 5, "{path}");
        assert!(named.is_subset(&there), "{path}: {:?}", named.difference(&there));
    }
    let rows = read("docs/operations.md").lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<_> = rows.flat_map(|row| names(row).next()).collect();
    assert_eq!(documented, there);
}
