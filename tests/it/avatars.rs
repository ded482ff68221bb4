//! What avatars' programs receive, while the real program plays real media.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mmface::record::Packets;
use nalgebra::{Quaternion, UnitQuaternion, Vector3};
use rosc::{OscPacket, OscType, decoder};

use crate::common::clip;
use crate::common::program::{Records, Running, command, run};

/// A receiver on a free port that keeps all packets.
struct Receiver {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Receiver {
    fn start() -> Self {
        Self::on(UdpSocket::bind("127.0.0.1:0").unwrap())
    }

    fn on(socket: UdpSocket) -> Self {
        let port = socket.local_addr().unwrap().port();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut packets, mut buffer) = (Vec::new(), [0; 4096]);
            loop {
                match socket.recv(&mut buffer) {
                    Ok(bytes) => packets.push(buffer[..bytes].to_vec()),
                    // Nothing waits: whatever was sent has been read.
                    Err(_) if stopped.load(Ordering::Relaxed) => return packets,
                    Err(_) => {}
                }
            }
        });
        Self { port, stop, thread }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn packets(self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A port on which nobody listens.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What an output sent.
fn packets(seen: &Records, name: &str) -> Packets {
    let sink = seen.end.sinks.iter().find(|sink| sink.name == name);
    sink.unwrap_or_else(|| panic!("no {name} in {:?}", seen.end.sinks)).packets.unwrap()
}

/// The messages of the bundles of a run, a list for each frame.
fn vmc_frames(packets: Vec<Vec<u8>>) -> Vec<Vec<rosc::OscMessage>> {
    let mut frames: Vec<Vec<_>> = Vec::new();
    for packet in packets {
        assert!(packet.len() <= 1500);
        let (_, OscPacket::Bundle(bundle)) = decoder::decode_udp(&packet).unwrap() else {
            panic!("no bundle");
        };
        for content in bundle.content {
            let OscPacket::Message(message) = content else { panic!("no message") };
            if message.addr == "/VMC/Ext/OK" {
                frames.push(Vec::new());
            }
            frames.last_mut().unwrap().push(message);
        }
    }
    for frame in &frames {
        assert_eq!(frame.last().unwrap().addr, "/VMC/Ext/Blend/Apply");
    }
    frames
}

/// The rotation of the first face of each frame, as the records have it.
fn rotations(seen: &Records) -> Vec<Option<UnitQuaternion<f32>>> {
    let of = |face: &mmface::record::FaceRecord| {
        let [w, x, y, z] = face.q;
        UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z))
    };
    seen.frames.iter().map(|frame| frame.faces.first().map(of)).collect()
}

#[test]
fn every_frame_arrives_turned_as_it_was_recorded() {
    let (vmc, opentrack) = (Receiver::start(), Receiver::start());
    let clip = clip("single_face.mp4");
    let (first, second) = (vmc.address(), opentrack.address());
    let seen =
        run(["--file", clip.to_str().unwrap(), "--vmc", &first, "--opentrack", &second]).records();
    let rotations = rotations(&seen);
    assert_eq!(rotations.len(), 72);
    let (frames, poses) = (vmc_frames(vmc.packets()), opentrack.packets());
    assert_eq!((frames.len(), poses.len()), (72, 72));
    let mut compared = 0;
    for ((rotation, messages), pose) in rotations.iter().zip(frames).zip(poses) {
        let ok = messages[0].args == [OscType::Int(1)];
        let Some(rotation) = rotation else { continue };
        assert!(ok);
        compared += 1;
        let ahead = rotation * Vector3::z();
        let bone = messages.iter().find(|m| m.addr == "/VMC/Ext/Bone/Pos").unwrap();
        let floats: Vec<f32> = bone.args.iter().filter_map(|a| a.clone().float()).collect();
        let [.., x, y, z, w] = floats[..] else { panic!("{floats:?}") };
        let unity = UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z));
        let there = unity * Vector3::z();
        assert!((there - Vector3::new(-ahead.x, ahead.y, ahead.z)).norm() < 1e-3);
        let number = |at: usize| f64::from_le_bytes(pose[8 * at..8 * at + 8].try_into().unwrap());
        let yaw = f64::from((-ahead.x).atan2(ahead.z).to_degrees());
        let pitch = f64::from(ahead.y.asin().to_degrees());
        assert!((number(3) - yaw).abs() < 0.1 && (number(4) - pitch).abs() < 0.1);
        assert!(number(2) > 10.0 && number(2) < 500.0, "{} cm away", number(2));
    }
    assert!(compared > 60, "{compared}");
    // The end record is made a frame or two before the senders are done.
    assert!(packets(&seen, "vmc").sent > 0 && packets(&seen, "vmc").failed == 0);
    assert!((70..=72).contains(&packets(&seen, "opentrack").sent));
}

#[test]
fn in_real_time_nothing_is_dropped_and_ends_are_told() {
    let receivers = [(); 3].map(|()| Receiver::start());
    let clip = clip("single_face.mp4");
    let addresses = receivers.each_ref().map(Receiver::address);
    let done = run([
        "--file",
        clip.to_str().unwrap(),
        "--realtime",
        "--mirror",
        "--live-link",
        &addresses[0],
        "--ifacialmocap",
        &addresses[1],
        "--openseeface",
        &addresses[2],
    ]);
    for name in ["live-link", "ifacialmocap", "openseeface"] {
        assert!(done.stderr.contains(&format!("{name}: ")), "{}", done.stderr);
    }
    let seen = done.records();
    let [live_link, mocap, openseeface] = receivers.map(Receiver::packets);
    for (name, packets) in
        [("live-link", &live_link), ("ifacialmocap", &mocap), ("openseeface", &openseeface)]
    {
        let sink = seen.end.sinks.iter().find(|sink| sink.name == name).unwrap();
        assert_eq!(packets.len() as u64 + sink.dropped, seen.end.frames.processed, "{name}");
    }
    let faces = seen.frames.iter().filter(|frame| !frame.faces.is_empty()).count();
    let long = live_link.iter().filter(|packet| packet.ends_with(&[0; 4]) && packet.len() > 300);
    assert!(long.count() > faces / 2, "{faces} faces");
    assert!(openseeface.iter().all(|packet| packet.len() == 1785));
    for pair in mocap.windows(2) {
        let text = |packet: &[u8]| String::from_utf8(packet.to_vec()).unwrap();
        let (one, other) = (text(&pair[0]), text(&pair[1]));
        assert!(one.matches('=').count() == 1 && one.ends_with('|'));
        // Before the first face all are equal, which means that there is none.
        assert!(one != other || one.contains("head#-0.0000,0.0000,0.0000"), "{one}");
    }
}

#[test]
fn without_faces_nobody_is_there() {
    let (vmc, live_link) = (Receiver::start(), Receiver::start());
    let clip = clip("no_face.mp4");
    let (first, second) = (vmc.address(), live_link.address());
    let seen =
        run(["--file", clip.to_str().unwrap(), "--vmc", &first, "--live-link", &second]).records();
    assert!(!seen.frames.is_empty());
    for packet in live_link.packets() {
        let name = u32::from_be_bytes(packet[41..45].try_into().unwrap()) as usize;
        assert_eq!(packet.len(), 45 + name + 16, "it ends behind the rate");
    }
    for messages in vmc_frames(vmc.packets()) {
        assert_eq!(messages[0].args, [OscType::Int(0)]);
    }
}

#[test]
fn a_receiver_that_is_absent_costs_nothing_else() {
    let clip = clip("single_face.mp4");
    let port = free_port().to_string();
    let done = run(["--file", clip.to_str().unwrap(), "--opentrack", &port]);
    assert_eq!(done.stderr.matches("nobody listens").count(), 1, "{}", done.stderr);
    assert!(done.stderr.contains("reached nobody"), "{}", done.stderr);
    let seen = done.records();
    assert_eq!(seen.frames.len(), 72);
    let packets = packets(&seen, "opentrack");
    assert!(packets.failed > 60, "{packets:?}");
}

#[test]
fn a_receiver_comes_goes_and_comes_back() {
    let port = free_port();
    let mut program = Running::start(command([
        "--pipeline",
        "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=60/1",
        "--opentrack",
        &port.to_string(),
    ]));
    for _ in 0..2 {
        // It sends while nobody is there.
        let mut count = 0;
        program.read_until(|_| {
            count += 1;
            count > 10
        });
        let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut buffer = [0; 64];
        for _ in 0..3 {
            assert_eq!(socket.recv(&mut buffer).unwrap(), 48);
        }
    }
    program.stop_reading();
    let done = program.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(done.stderr.matches("nobody listens").count(), 1, "{}", done.stderr);
    assert!(done.stderr.contains("somebody listens at"), "{}", done.stderr);
}

/// The rotation of the head in a frame's messages.
fn head_of(messages: &[rosc::OscMessage]) -> UnitQuaternion<f32> {
    let bone = messages.iter().find(|m| m.addr == "/VMC/Ext/Bone/Pos").unwrap();
    let floats: Vec<f32> = bone.args.iter().filter_map(|a| a.clone().float()).collect();
    let [.., x, y, z, w] = floats[..] else { panic!("{floats:?}") };
    UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z))
}

/// The value of a shape in a frame's messages.
fn shape_of(messages: &[rosc::OscMessage], name: &str) -> f32 {
    let is_it = |m: &&rosc::OscMessage| m.args.first() == Some(&OscType::String(name.into()));
    let value = messages.iter().find(is_it).unwrap_or_else(|| panic!("no {name}"));
    value.args[1].clone().float().unwrap()
}

#[test]
fn two_faces_move_two_avatars() {
    // Two ports, one behind the other.
    let (first, second) = std::iter::from_fn(|| {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let next = first.local_addr().unwrap().port().checked_add(1)?;
        Some(UdpSocket::bind(("127.0.0.1", next)).ok().map(|second| (first, second)))
    })
    .flatten()
    .next()
    .unwrap();
    let (first, second) = (Receiver::on(first), Receiver::on(second));
    let pipeline = format!(
        "filesrc location={} ! jpegdec ! imagefreeze num-buffers=30 ! video/x-raw,framerate=25/1",
        clip("multi_face.jpg").display()
    );
    let address = first.address();
    let flags = ["--pipeline", &pipeline, "--faces", "2", "--vmc-per-face", "--vmc", &address];
    let seen = run(flags).records();
    let frames = [first, second].map(|receiver| vmc_frames(receiver.packets()));
    assert_eq!(frames.each_ref().map(Vec::len), [seen.frames.len(); 2]);
    // Both are seen in the first frame, and take their ports by their ids.
    let ids: Vec<u64> = seen.frames[0].faces.iter().map(|face| face.id).collect();
    assert_eq!(ids.len(), 2);
    for (port, frames) in frames.iter().enumerate() {
        let mut compared = 0;
        for (record, messages) in seen.frames.iter().zip(frames) {
            let Some(face) = record.faces.iter().find(|face| face.id == ids[port]) else {
                continue;
            };
            let [w, x, y, z] = face.q;
            let sent = head_of(messages).into_inner();
            let recorded = Quaternion::new(w, x, -y, -z);
            assert!(sent.dot(&recorded).abs() > 0.999, "{sent} for {recorded}");
            compared += 1;
        }
        assert!(compared > 20, "{compared} frames of the face at port {port}");
    }
}

#[test]
fn a_signal_makes_the_face_zero() {
    let vmc = Receiver::start();
    let (clip, address) = (clip("single_face.mp4"), vmc.address());
    // A picture that does not change: whatever it shows becomes zero.
    let still = format!(
        "filesrc location={} ! qtdemux ! decodebin ! imagefreeze is-live=true ! video/x-raw,framerate=30/1",
        clip.display()
    );
    let mut program = Running::start(command([
        "--pipeline",
        &still,
        "--neutral",
        "off",
        "--smooth",
        "avatar",
        "--predict",
        "20",
        "--vmc",
        &address,
    ]));
    let mut before = 0;
    program.read_until(|record| {
        before +=
            u32::from(matches!(record, mmface::record::Record::Frame(f) if f.faces.len() == 1));
        before > 20
    });
    program.signal("USR1");
    let mut after = 0;
    program.read_until(|record| {
        after += u32::from(matches!(record, mmface::record::Record::Frame(_)));
        after > 60
    });
    program.signal("TERM");
    let done = program.finish();
    assert!(done.stderr.contains("the neutral face of id"), "{}", done.stderr);
    let seen = done.records();
    assert_eq!(seen.header.smoothing, "avatar");
    let frames = vmc_frames(vmc.packets());
    let open = |messages: &Vec<rosc::OscMessage>| {
        ["BrowInnerUp", "EyeSquintLeft", "MouthSmileLeft", "JawOpen", "MouthPucker"]
            .map(|name| shape_of(messages, name))
            .into_iter()
            .fold(0.0, f32::max)
    };
    let (held, zero) = (&frames[frames.len() / 5], frames.last().unwrap());
    assert!(head_of(held).angle().to_degrees() > 2.0, "the head of this clip is turned");
    assert!(head_of(zero).angle().to_degrees() < 1.0, "{}", head_of(zero).angle().to_degrees());
    assert!(open(zero) < 0.02 && open(held) > open(zero), "{} after {}", open(zero), open(held));
    // What was measured stays measured.
    let last = seen.frames.iter().rev().find_map(|frame| frame.faces.first()).unwrap();
    assert!(last.r.iter().any(|angle| angle.abs() > 2.0) && last.relative.is_none());
    let latency = packets(&seen, "vmc").latency_ms;
    assert!(latency.p50 > 0.0 && latency.p95 >= latency.p50, "{latency:?}");
}

#[test]
fn a_neutral_face_is_kept_in_a_file_and_seen_in_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("me.toml");
    let clip = clip("single_face.mp4");
    let flags = [
        "--file",
        clip.to_str().unwrap(),
        "--neutral",
        path.to_str().unwrap(),
        "--calibrate",
        "0.5",
    ];
    let seen = run(flags).records();
    let first = seen.faces().next().unwrap();
    assert_eq!(first.relative.as_deref(), Some(&first.expression[..]), "nothing is known yet");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("[head]") && text.contains("[expression]"), "{text}");
    let again = run(&flags[..4]).records();
    let mut differs = false;
    for (face, before) in again.faces().zip(seen.faces()) {
        assert_eq!(face.expression, before.expression, "measurements stay measurements");
        let relative = face.relative.as_ref().unwrap();
        assert!(relative.iter().zip(&face.expression).all(|(r, e)| *r <= e + 1e-4));
        differs |= *relative != face.expression;
    }
    assert!(differs);
    let plain = run(&flags[..2]).records();
    assert!(plain.faces().all(|face| face.relative.is_none()), "off for files");
}

#[test]
fn visemes_are_sent_to_avatars_that_know_only_those() {
    let vmc = Receiver::start();
    let (clip, address) = (clip("single_face.mp4"), vmc.address());
    let flags = ["--file", clip.to_str().unwrap(), "--vmc-shapes", "vrm1", "--vmc", &address];
    run(flags).records();
    let frames = vmc_frames(vmc.packets());
    assert_eq!(frames.len(), 72);
    let of =
        |name: &str| frames.iter().map(|messages| shape_of(messages, name)).fold(0.0, f32::max);
    // She talks, and blinks.
    assert!(of("aa").max(of("oh")).max(of("ou")) > 0.1, "{} {} {}", of("aa"), of("oh"), of("ou"));
    assert!(of("blinkLeft") > 0.3, "{}", of("blinkLeft"));
}

#[test]
fn curves_and_names_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("avatar.toml");
    std::fs::write(&path, "[eyeBlink]\nmin = 0.75\nmax = 0.75\nname = \"Lid\"\n").unwrap();
    let vmc = Receiver::start();
    let (clip, address) = (clip("single_face.jpg"), vmc.address());
    let flags = ["--file", clip.to_str().unwrap(), "--vmc", &address];
    run(flags.into_iter().chain(["--avatar", path.to_str().unwrap()])).records();
    let frames = vmc_frames(vmc.packets());
    let lids: Vec<_> = frames[0]
        .iter()
        .filter(
            |m| matches!(m.args.first(), Some(OscType::String(name)) if name.starts_with("Lid")),
        )
        .map(|m| m.args.clone())
        .collect();
    let lid = |side: &str| vec![OscType::String(format!("Lid{side}")), OscType::Float(0.75)];
    assert_eq!(lids, [lid("Left"), lid("Right")]);
    std::fs::write(&path, "[eyeBlnk]\n").unwrap();
    let done = run(flags.into_iter().chain(["--avatar", path.to_str().unwrap()]));
    assert!(done.failure(2).contains("there is no eyeBlnk; did you mean eyeBlink"));
}
