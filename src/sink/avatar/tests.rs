use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use mmface::face::rotation::from_angles;
use mmface::{Face, FrameResult, Image};

use super::pose::Presence;
use super::*;
use crate::testing;

/// A face that looks ahead, at rest.
pub(super) fn pose() -> Pose {
    Pose {
        presence: Presence::Seen,
        id: 1,
        coefficients: [0.0; arkit::COUNT],
        rotation: UnitQuaternion::identity(),
        position: [0.0, 0.0, 60.0],
        params: None,
        size: [1280.0, 720.0],
        pts: 1.5,
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    }
}

/// ARKit's names.
pub(super) fn standard_names() -> [String; arkit::COUNT] {
    arkit::NAMES.map(Into::into)
}

/// A frame at `pts` with one face or none.
fn frame_event(context: &Arc<Context>, pts: f64, params: Option<&Params>) -> Arc<FrameEvent> {
    let mut frame = testing::frame(pts, 1);
    frame.pixels = Arc::new(Image::rgb(320, 200, vec![90; 320 * 200 * 3]).expect("an image"));
    let face = |params: &Params| Face {
        id: 3,
        confidence: 1.0,
        bounds: [100.0, 50.0, 100.0, 100.0],
        params: params.clone(),
        raw: params.clone(),
        landmarks: vec![],
        volume: None,
    };
    let result =
        FrameResult { faces: params.map(face).into_iter().collect(), ..Default::default() };
    let none = Default::default();
    Arc::new(FrameEvent::new(frame, result, Default::default(), none, String::new(), context))
}

/// A face turned to its own left, up and tilted, that winks with its left eye.
fn winking(model: &FaceModel) -> Params {
    let mut params = Params::neutral();
    params.identity = vec![0.3; model.identities];
    params.expression = vec![0.0; model.expressions.len()];
    params.expression
        [model.expressions.iter().position(|n| n == "eyeBlinkLeft").expect("a name")] = 1.0;
    params.rotation = from_angles([5.0, -30.0, 10.0]);
    (params.f, params.t) = (8.0, [200.0, 120.0, 0.0]);
    params
}

fn poser(settings: Settings) -> (Poser, Arc<Context>) {
    let context = testing::context(&testing::face_model());
    (Poser::new(context.model.clone(), settings), context)
}

/// The pose of a frame with at most one face.
fn pose_of(poser: &mut Poser, event: &FrameEvent) -> Pose {
    poser.pose(event, event.result.faces.first())
}

#[test]
fn a_face_becomes_a_pose() {
    let (mut poser, context) = poser(Settings::default());
    let params = winking(&context.model);
    let pose = pose_of(&mut poser, &frame_event(&context, 0.0, Some(&params)));
    assert_eq!((pose.presence, pose.id), (Presence::Seen, 3));
    assert_eq!(pose.rotation, params.rotation);
    assert_eq!(pose.position, [(200.0 - 159.5) / 8.0, (99.5 - 120.0) / 8.0, 40.0]);
    let of = |name| arkit::value(&pose.coefficients, name);
    assert!(of("eyeBlinkLeft") > 0.9 && of("eyeBlinkRight") < 0.1);
}

#[test]
fn the_mirror_exchanges_left_and_right_everywhere() {
    let (mut plain, context) = poser(Settings::default());
    let (mut mirror, _) = poser(Settings { mirror: true, ..Settings::default() });
    let frame = frame_event(&context, 0.0, Some(&winking(&context.model)));
    let (plain, mirrored) = (pose_of(&mut plain, &frame), pose_of(&mut mirror, &frame));
    for (at, name) in arkit::NAMES.iter().enumerate() {
        let other = name
            .strip_suffix("Left")
            .map(|stem| format!("{stem}Right"))
            .or_else(|| name.strip_suffix("Right").map(|stem| format!("{stem}Left")))
            .unwrap_or_else(|| (*name).into());
        assert_eq!(plain.coefficients[at], arkit::value(&mirrored.coefficients, &other), "{name}");
    }
    let [yaw, pitch, roll] = pose::yaw_pitch_roll(&plain.rotation);
    let seen = pose::yaw_pitch_roll(&mirrored.rotation);
    for (seen, expected) in seen.iter().zip([-yaw, pitch, -roll]) {
        assert!((seen - expected).abs() < 1e-3);
    }
    let [x, y, z] = plain.position;
    for (seen, expected) in mirrored.position.iter().zip([-x, y, z]) {
        assert!((seen - expected).abs() < 1e-4);
    }
    // As reach says of Unity: (x, −y, −z, w) for the same side, (x, y, z, w) mirrored.
    let ours = mmface::face::rotation::to_wxyz(&plain.rotation);
    let unity = pose::unity(&mirrored.rotation);
    for (seen, expected) in unity.iter().zip([ours[1], ours[2], ours[3], ours[0]]) {
        assert!((seen - expected).abs() < 1e-5);
    }
}

#[test]
fn before_and_after_a_face_there_is_rest() {
    let (mut poser, context) = poser(Settings::default());
    let resting = poser.settings.tuning.apply(&[0.0; arkit::COUNT]);
    let before = pose_of(&mut poser, &frame_event(&context, 0.0, None));
    assert_eq!((before.presence, before.coefficients), (Presence::Gone, resting));
    pose_of(&mut poser, &frame_event(&context, 1.0, Some(&winking(&context.model))));
    let mut last = 1.0;
    for step in 1..30 {
        let pose = pose_of(&mut poser, &frame_event(&context, 1.0 + f64::from(step) / 30.0, None));
        let blink = arkit::value(&pose.coefficients, "eyeBlinkLeft");
        assert!(blink <= last, "the lid opens steadily");
        last = blink;
    }
    let after = pose_of(&mut poser, &frame_event(&context, 2.0, None));
    assert_eq!((after.presence, after.coefficients), (Presence::Gone, resting));
    assert!(after.rotation.angle() < 1e-3 && after.position[0].abs() < 1e-4);
}

#[test]
fn every_protocol_sends_every_frame() {
    let context = testing::context(&testing::face_model());
    let kinds = [Kind::Vmc, Kind::LiveLink, Kind::IFacialMocap, Kind::OpenSeeFace, Kind::OpenTrack];
    for kind in kinds {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a port");
        receiver.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
        let port = receiver.local_addr().expect("an address").port();
        let address = Address { host: "127.0.0.1".into(), port };
        let plan = Avatar { kind, address, faces: None, settings: Settings::default() };
        assert_eq!((plan.name(), plan.when_slow()), (kind.name(), WhenSlow::DropOldest));
        let mut sink = Box::new(plan).open(&context).expect("open");
        let params = winking(&context.model);
        for (pts, face) in [(0.0, None), (0.1, Some(&params)), (0.2, None), (5.0, None)] {
            let event = Event::Frame(frame_event(&context, pts, face));
            assert!(sink.take(&event).expect("sent").is_continue());
            let mut buffer = [0; 4096];
            let bytes = receiver.recv(&mut buffer).expect("a packet");
            let most = if kind == Kind::OpenSeeFace { 1785 } else { 1500 };
            assert!(bytes <= most, "{} has {bytes} bytes", kind.name());
        }
        sink.finish().expect("finished");
        let counters = context.counters.sink(kind.name());
        assert!(counters.sent.get() >= 4 && counters.failed.get() == 0, "{}", kind.name());
    }
}

#[test]
fn several_faces_go_to_several_ports() {
    // Two ports, one behind the other, that nobody has.
    let (first, second) = std::iter::from_fn(|| {
        let first = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let port = first.local_addr().expect("an address").port();
        let second = UdpSocket::bind(("127.0.0.1", port.checked_add(1)?)).ok();
        Some(second.map(|second| (first, second)))
    })
    .flatten()
    .next()
    .expect("two ports");
    let port = first.local_addr().expect("an address").port();
    let context = testing::context(&testing::face_model());
    let address = Address { host: "127.0.0.1".into(), port };
    let settings = Settings::default();
    let plan = Avatar { kind: Kind::OpenTrack, address, faces: Some(2), settings };
    let mut sink = Box::new(plan).open(&context).expect("open");
    let params = winking(&context.model);
    // The yaw of the head that arrives at each port.
    let mut send = |pts: f64, ids: &[u64]| {
        let mut event = frame_event(&context, pts, Some(&params));
        let face = event.result.faces[0].clone();
        let turned = |id: u64| {
            let mut face = Face { id, ..face.clone() };
            face.params.rotation = from_angles([0.0, -10.0 * id as f32, 0.0]);
            face
        };
        Arc::get_mut(&mut event).expect("the only one").result.faces =
            ids.iter().map(|id| turned(*id)).collect();
        assert!(sink.take(&Event::Frame(event)).expect("sent").is_continue());
        [&first, &second].map(|receiver| {
            receiver.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
            let mut buffer = [0; 48];
            assert_eq!(receiver.recv(&mut buffer).expect("a packet"), 48);
            f64::from_le_bytes(buffer[24..32].try_into().expect("eight bytes")).round() as i32
        })
    };
    assert_eq!(send(0.0, &[1]), [-10, 0]);
    assert_eq!(send(0.1, &[1, 3]), [-10, -30]);
    // The second keeps its port while the first is gone, whose avatar is held.
    assert_eq!(send(0.2, &[3]), [-10, -30]);
    assert_eq!(send(0.3, &[1, 3]), [-10, -30]);
    sink.finish().expect("finished");
}

#[test]
fn a_head_in_motion_is_sent_ahead_of_its_record() {
    let (mut plain, context) = poser(Settings::default());
    let (mut ahead, _) = poser(Settings { predict: 0.05, ..Settings::default() });
    let mut params = winking(&context.model);
    let mut turned = 0.0;
    for frame in 0..30 {
        turned = f64::from(frame) / 30.0;
        params.rotation = from_angles([0.0, -40.0 * turned as f32, 0.0]);
        let event = frame_event(&context, turned, Some(&params));
        let [[seen, ..], [predicted, ..]] = [&mut plain, &mut ahead]
            .map(|poser| pose::yaw_pitch_roll(&pose_of(poser, &event).rotation));
        assert!((seen - 40.0 * turned as f32).abs() < 1e-2);
        // 0.05 s at 40° a second are 2°.
        assert!(frame < 20 || (predicted - seen - 2.0).abs() < 0.05, "{predicted} for {seen}");
    }
    assert!(turned > 0.9);
}

/// Whether a receiver could read this packet, by readers that were not written here where there are
/// some.
fn decodes(kind: Kind, packet: &[u8]) -> bool {
    let is_finite = |bytes: &[u8]| {
        bytes.chunks_exact(4).all(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite())
    };
    match kind {
        Kind::Vmc => {
            let decoded = rosc::decoder::decode_udp(packet);
            decoded.is_ok_and(|(rest, _)| rest.is_empty()) && packet.len() <= 1500
        }
        Kind::LiveLink => {
            // Version, id, name, time code; and, with a face, 61 numbers.
            let length = |at: usize| i32::from_be_bytes(packet[at..at + 4].try_into().expect("4"));
            let name = 5 + length(1) as usize;
            let code = name + 4 + length(name) as usize;
            match &packet[code + 16..] {
                [] => true,
                [61, values @ ..] => {
                    let value = |b: &[u8]| f32::from_be_bytes([b[0], b[1], b[2], b[3]]);
                    values.len() == 244 && values.chunks(4).all(|b| value(b).is_finite())
                }
                _ => false,
            }
        }
        Kind::IFacialMocap => {
            let text = String::from_utf8_lossy(packet).replace("|=", "|");
            let read = ::ifacialmocap::Value::parse_str_lossy(text);
            read.is_ok_and(|read| read.int_keys.len() == arkit::COUNT)
        }
        Kind::OpenSeeFace => packet.len() == 1785 && is_finite(&packet[12..28]),
        Kind::OpenTrack => {
            let value = |b: &[u8]| f64::from_le_bytes(b.try_into().expect("eight bytes"));
            packet.len() == 48 && packet.chunks(8).all(|b| value(b).is_finite())
        }
        Kind::VTubeStudio => false,
    }
}

/// As many frames as ten minutes have, with a head that turns to all sides, a face that changes, and
/// losses of every length: each packet can be read.
#[test]
fn every_packet_of_ten_minutes_decodes() {
    let (mut poser, context) = poser(Settings { predict: 0.04, ..Settings::default() });
    let kinds = [Kind::Vmc, Kind::LiveLink, Kind::IFacialMocap, Kind::OpenSeeFace, Kind::OpenTrack];
    let protocol = |kind: Kind| kind.protocol(&Settings::default(), &context).expect("no answers");
    let mut protocols = kinds.map(|kind| (kind, protocol(kind)));
    let mut params = winking(&context.model);
    let mut packets = Vec::new();
    for number in 0..18_000_u32 {
        let pts = f64::from(number) / 30.0;
        let wave = |seconds: f64| (pts * std::f64::consts::TAU / seconds).sin() as f32;
        params.rotation = from_angles([80.0 * wave(7.0), 179.0 * wave(11.0), 170.0 * wave(13.0)]);
        params.expression.iter_mut().enumerate().for_each(|(k, value)| {
            *value = 0.5 + 0.5 * wave(1.0 + k as f64 / 7.0);
        });
        params.t = [160.0 + 300.0 * wave(5.0), 100.0 + 200.0 * wave(6.0), 0.0];
        params.f = 8.0 * (2.0 * wave(9.0)).exp();
        // Every twenty seconds it is gone for longer.
        let is_there = number % 600 > number / 90;
        let event = frame_event(&context, pts, is_there.then_some(&params));
        let pose = pose_of(&mut poser, &event);
        for (kind, protocol) in &mut protocols {
            protocol.packets(&pose, &mut packets);
            for packet in packets.drain(..) {
                assert!(decodes(*kind, &packet), "{}, frame {number}: {packet:?}", kind.name());
            }
        }
    }
}
