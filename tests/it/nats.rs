//! Records into a real server of NATS.

use std::path::Path;
use std::process::Command;

use mmface::record::Record;

use crate::common::nats::{Server, block_on, check, wait};
use crate::common::program::{Running, command, records, run};
use crate::common::{certificate, clip};

/// A stream of a clip without a face, whose records are made quickly.
fn file(server: &Server) -> Vec<String> {
    let clip = clip("no_face.mp4").display().to_string();
    ["--file", &clip, "--stream", "door", "--nats", &server.url()].map(str::to_owned).into()
}

/// A live picture that never ends.
fn live(server: &Server) -> Vec<String> {
    let text = "videotestsrc is-live=true pattern=ball \
                ! video/x-raw,width=160,height=120,framerate=30/1";
    let arguments = ["--pipeline", text, "--stream", "door", "--nats", &server.url()];
    arguments.map(str::to_owned).into()
}

fn with(mut arguments: Vec<String>, more: &[&str]) -> Command {
    arguments.extend(more.iter().map(|text| (*text).to_owned()));
    command(arguments)
}

fn spool(folder: &Path) -> [&str; 2] {
    ["--spool", folder.to_str().unwrap()]
}

#[test]
fn a_broker_gets_what_standard_output_gets() {
    let server = Server::start();
    let seen = records(file(&server));
    let stored = server.stored("mmface.records.door");
    assert_eq!(check(&stored).len(), 1);
    assert_eq!(stored.len(), seen.all.len());
    for (one, record) in stored.iter().zip(&seen.all) {
        let mut stored = one.record.clone();
        if let Some(header) = stored.as_object_mut().filter(|record| record["type"] == "header") {
            assert_eq!(header.remove("revision"), Some(one.revision.into()));
        }
        assert_eq!(stored, serde_json::to_value(record).unwrap());
    }
    let [sink] = &seen.end.sinks[..] else { panic!("{:?}", seen.end) };
    let sent = sink.records.unwrap();
    // Everything before the end, but for two frames that the sink may not have taken yet.
    let before = seen.all.len() as u64 - 1;
    assert!((before - 2..=before).contains(&(sent.acknowledged + sent.waiting)), "{sent:?}");

    records(file(&server));
    let runs = check(&server.stored("mmface.records.*"));
    assert_eq!(runs.len(), 2, "a second run has a number of its own");
}

#[test]
fn what_a_killed_run_could_not_send_is_sent_at_the_next_start() {
    let mut server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(with(live(&server), &spool(folder.path())));
    let frame = |record: &Record| matches!(record, Record::Frame(_));
    running.read_until(frame);
    wait(|| (server.stored("mmface.records.door").len() > 20).then_some(()));
    server.kill();
    let mut last = 0;
    for _ in 0..60 {
        running.read_until(|record| match record {
            Record::Frame(frame) => {
                last = frame.frame;
                true
            }
            _ => false,
        });
    }
    running.signal("KILL");
    drop(running);
    server.again();

    let done = Running::start(with(file(&server), &spool(folder.path()))).finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let stored = server.stored("mmface.records.door");
    let runs = check(&stored);
    assert_eq!(runs.len(), 2);
    let numbers = stored.iter().filter_map(|one| one.record["frame"].as_u64());
    // The last one may have been written to standard output just before the end.
    assert!(numbers.clone().any(|number| number + 1 >= last), "{last} is missing");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap()).collect();
    assert!(left.len() <= 3, "{left:?}");
}

#[test]
fn a_broker_that_restarts_has_everything_once_although_it_remembers_no_ids() {
    let mut server = Server::start();
    // Ids are forgotten before the server is back, so that only what it has stored can tell.
    block_on(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let config = async_nats::jetstream::stream::Config {
            name: "MMFACE".into(),
            subjects: vec!["mmface.records.>".into()],
            duplicate_window: std::time::Duration::from_millis(1500),
            ..Default::default()
        };
        async_nats::jetstream::new(client).create_stream(config).await.unwrap();
    });
    let running = Running::start(command(live(&server)));
    for _ in 0..3 {
        let before = server.stored("mmface.records.door").len();
        wait(|| (server.stored("mmface.records.door").len() > before + 15).then_some(()));
        server.kill();
        std::thread::sleep(std::time::Duration::from_secs(2));
        server.again();
    }
    wait(|| (server.stored("mmface.records.door").len() > 200).then_some(()));
    running.signal("TERM");
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let stored = server.stored("mmface.records.door");
    assert_eq!(stored.last().unwrap().record["type"], "end");
    assert_eq!(check(&stored).len(), 1);
}

#[test]
fn a_full_spool_loses_the_oldest_and_says_so() {
    let mut server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let small = [&spool(folder.path())[..], &["--spool-limit", "1"]].concat();
    server.kill();
    let clip = clip("single_face.mp4").display().to_string();
    let arguments = ["--file", &clip, "--realtime", "--vertices", "--stream", "door"];
    let mut arguments: Vec<_> = arguments.map(str::to_owned).into();
    arguments.extend(["--nats".into(), server.url()]);
    let done = Running::start(with(arguments, &small)).finish();
    let seen = done.records();
    assert!(done.stderr.contains("are sent at the next start"), "{}", done.stderr);
    let sent = seen.end.sinks.iter().find(|sink| sink.name == "nats").unwrap();
    let dropped = sent.records.unwrap().dropped;
    assert!(dropped > 0, "{:?}", seen.end);

    server.again();
    let done = Running::start(with(file(&server), &small)).finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let stored = server.stored("mmface.records.door");
    let runs = check(&stored);
    assert_eq!(runs.len(), 2);
    let lost = stored.iter().filter(|one| one.record["type"] == "lost");
    let lost: u64 = lost.map(|one| one.record["records"].as_u64().unwrap()).sum();
    assert!(lost >= dropped, "{lost} are told, {dropped} were counted before the end");
}

#[test]
fn without_a_spool_records_that_cannot_be_sent_fail_the_run() {
    let mut server = Server::start();
    server.kill();
    let done = run(file(&server));
    let failure = done.failure(6);
    assert!(failure.contains("99 records were not sent"), "{failure}");
    assert!(failure.contains("cannot be reached") && failure.contains("--spool DIR"), "{failure}");
}

#[test]
fn who_may_not_in_is_told_so_and_secrets_are_in_no_message() {
    let server = Server::start_with(&["--user", "me", "--pass", "hush-hush-hush"]);
    let with_login = |login: &str| {
        let mut arguments = file(&server);
        *arguments.last_mut().unwrap() = format!("nats://{login}127.0.0.1:{}", server.port());
        run(arguments)
    };
    let done = with_login("me:not-this-one@");
    assert!(done.failure(6).contains("does not let this program in"), "{}", done.stderr);
    assert!(!done.stderr.contains("not-this-one"), "{}", done.stderr);
    let done = with_login("a-t0ken-of-mine@");
    assert!(!done.stderr.contains("a-t0ken-of-mine"), "{}", done.stderr);
    let done = with_login("me:hush-hush-hush@");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(!done.stderr.contains("hush-hush-hush"), "{}", done.stderr);
}

#[test]
fn over_tls_a_server_needs_a_certificate_that_is_trusted() {
    let [certificate, key] = certificate().map(|path| path.display().to_string());
    let server = Server::start_with(&["--tls", "--tlscert", &certificate, "--tlskey", &key]);
    let mut stranger = file(&server);
    *stranger.last_mut().unwrap() = format!("tls://127.0.0.1:{}", server.port());
    let mut friend = stranger.clone();
    friend.extend(["--nats-ca".into(), certificate]);

    let done = run(friend);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(run(stranger).failure(6).contains("--nats-ca"));
}

#[test]
fn wrong_flags_are_told_in_a_sentence() {
    for (arguments, why) in [
        (&["--spool", "x"][..], "--spool is about records to NATS: add --nats URL"),
        (&["--nats", "http://h"], "is no NATS server: write nats://host:4222"),
        (&["--nats", "h", "--spool-limit", "9"], "add --spool DIR"),
        (&["--nats", "h", "--nats-replicas", "9"], "is not within 1 to 5"),
        (&["--nats", "h", "--nats-keep", "0"], "--nats-keep 0 is not within"),
    ] {
        let done = run([&["--file", "x.mp4"], arguments].concat());
        let failure = done.failure(2);
        assert!(failure.contains(why), "{failure}");
    }
}
