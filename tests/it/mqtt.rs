//! Records at a real MQTT broker (a server of NATS, which speaks MQTT 3.1.1).

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

use crate::common::nats::{Server, wait};
use crate::common::program::{Running, command, run};
use crate::common::{certificate, clip};

/// A broker on loopback.
struct Broker {
    server: Server,
    port: u16,
    _config: tempfile::TempDir,
}

impl Broker {
    fn start(more: &str) -> Self {
        // The server does not tell which port it took; one that was just given back is free.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = tempfile::tempdir().unwrap();
        let file = config.path().join("broker.conf");
        std::fs::write(&file, format!("mqtt {{ listen: \"127.0.0.1:{port}\"\n{more} }}")).unwrap();
        let server = Server::start_with(&["-n", "broker", "-c", file.to_str().unwrap()]);
        wait(|| std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { server, port, _config: config }
    }

    fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Listens to everything from now on.
    fn heard(&self) -> Heard {
        static READERS: AtomicUsize = AtomicUsize::new(0);
        let heard = Heard::default();
        let name = format!("reader-{}", READERS.fetch_add(1, Ordering::Relaxed));
        let mut options = MqttOptions::new(name, "127.0.0.1", self.port);
        options.set_max_packet_size(1 << 20, 1 << 20).set_clean_session(true);
        let (client, mut connection) = Client::new(options, 10);
        client.subscribe("mmface/#", QoS::AtLeastOnce).unwrap();
        let messages = heard.0.clone();
        let (subscribed, ready) = crossbeam_channel::bounded(1);
        std::thread::spawn(move || {
            let _client = client;
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        let text = String::from_utf8(message.payload.to_vec()).unwrap();
                        messages.lock().unwrap().push((message.topic, text));
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => drop(subscribed.send(())),
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        });
        ready.recv_timeout(Duration::from_secs(30)).unwrap();
        heard
    }
}

/// Messages: topic, text.
#[derive(Default)]
struct Heard(Arc<Mutex<Vec<(String, String)>>>);

impl Heard {
    fn of(&self, topic: &str) -> Vec<String> {
        let messages = self.0.lock().unwrap();
        messages.iter().filter(|(t, _)| t == topic).map(|(_, text)| text.clone()).collect()
    }

    fn wait_for(&self, topic: &str, text: &str) {
        wait(|| self.of(topic).iter().any(|t| t == text).then_some(()));
    }
}

fn arguments(broker: &Broker) -> Vec<String> {
    let clip = clip("single_face.mp4").display().to_string();
    ["--file", &clip, "--stream", "door/1", "--mqtt", &broker.url()].map(str::to_owned).into()
}

/// A live picture that never ends.
fn live(broker: &Broker) -> Vec<String> {
    let text = "videotestsrc is-live=true pattern=ball \
                ! video/x-raw,width=160,height=120,framerate=30/1";
    ["--pipeline", text, "--stream", "hall", "--mqtt", &broker.url()].map(str::to_owned).into()
}

#[test]
fn a_broker_gets_every_record_of_a_file_and_keeps_what_late_readers_need() {
    let broker = Broker::start("");
    let heard = broker.heard();
    let seen = Running::start(command(arguments(&broker))).finish().records();
    heard.wait_for("mmface/door_1/available", "offline");
    let records: Vec<Value> =
        heard.of("mmface/door_1").iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let expected: Vec<_> =
        seen.all.iter().map(|record| serde_json::to_value(record).unwrap()).collect();
    assert_eq!(records.len(), expected.len());
    // The end counts what sinks have taken at its own moment.
    assert_eq!(records[..records.len() - 1], expected[..expected.len() - 1]);
    assert_eq!(heard.of("mmface/door_1/faces"), ["1", "0"], "told when it changes");

    let late = broker.heard();
    late.wait_for("mmface/door_1/available", "offline");
    late.wait_for("mmface/door_1/faces", "0");
    let header: Value = serde_json::from_str(&late.of("mmface/door_1/header")[0]).unwrap();
    assert_eq!(header["type"], "header");
    assert!(late.of("mmface/door_1").is_empty(), "records are not retained");
}

#[test]
fn who_is_killed_is_offline_and_a_broker_may_come_and_go() {
    let mut broker = Broker::start("");
    let heard = broker.heard();
    let running = Running::start(command(live(&broker)));
    wait(|| (heard.of("mmface/hall").len() > 20).then_some(()));
    drop(running);
    heard.wait_for("mmface/hall/available", "offline");

    let running = Running::start(command(live(&broker)));
    wait(|| (heard.of("mmface/hall/available").last()? == "online").then_some(()));
    broker.server.kill();
    std::thread::sleep(Duration::from_secs(1));
    broker.server.again();
    wait(|| std::net::TcpStream::connect(("127.0.0.1", broker.port)).ok());
    let heard = broker.heard();
    heard.wait_for("mmface/hall/available", "online");
    wait(|| (heard.of("mmface/hall").len() > 20).then_some(()));
    running.signal("TERM");
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    heard.wait_for("mmface/hall/available", "offline");
    let last: Value = serde_json::from_str(heard.of("mmface/hall").last().unwrap()).unwrap();
    assert_eq!(last["type"], "end");
    let sinks = last["sinks"].as_array().unwrap();
    let mqtt = sinks.iter().find(|sink| sink["name"] == "mqtt").unwrap();
    assert!(mqtt["records"]["acknowledged"].as_u64().unwrap() > 20, "{mqtt}");
}

#[test]
fn a_broker_that_is_not_there_or_refuses_is_named() {
    let locked = Broker::start("authorization { username: me, password: right-one }");
    let done = run(arguments(&locked));
    assert_eq!(done.code, Some(6), "{}", done.stderr);
    assert!(done.stderr.contains("refuses the login"), "{}", done.stderr);

    let user = locked.url().replace("mqtt://", "mqtt://me@");
    let login = |password: &str| {
        let mut arguments = arguments(&locked);
        *arguments.last_mut().unwrap() = user.clone();
        let mut command = command(arguments);
        command.env("MMFACE_MQTT_PASSWORD", password);
        Running::start(command).finish()
    };
    assert_eq!(login("wrong-one").code, Some(6));
    assert_eq!(login("right-one").code, Some(0));

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut args = arguments(&locked);
    args.pop();
    args.push(format!("mqtt://me:secret-word@{nobody}"));
    let done = run(args);
    assert_eq!(done.code, Some(6), "{}", done.stderr);
    assert!(done.stderr.contains("cannot be used"), "{}", done.stderr);
    assert!(!done.stderr.contains("secret-word"), "{}", done.stderr);
}

#[test]
fn over_tls_a_broker_needs_a_certificate_that_is_trusted() {
    let [certificate, key] = certificate().map(|path| path.display().to_string());
    let tls = format!("tls {{ cert_file: \"{certificate}\", key_file: \"{key}\" }}");
    let broker = Broker::start(&tls);
    let mut stranger = arguments(&broker);
    *stranger.last_mut().unwrap() = broker.url().replace("mqtt://", "mqtts://");
    let mut friend = stranger.clone();
    friend.extend(["--mqtt-ca".into(), certificate]);

    let done = run(friend);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("records acknowledged"), "{}", done.stderr);
    let done = run(stranger);
    assert_eq!(done.code, Some(6), "{}", done.stderr);
    assert!(done.stderr.contains("--mqtt-ca"), "{}", done.stderr);
}
