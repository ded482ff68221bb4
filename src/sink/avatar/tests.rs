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
        gaze: None,
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

#[test]
fn a_face_becomes_a_pose() {
    let (mut poser, context) = poser(Settings::default());
    let params = winking(&context.model);
    let pose = poser.pose(&frame_event(&context, 0.0, Some(&params)));
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
    let (plain, mirrored) = (plain.pose(&frame), mirror.pose(&frame));
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
    let before = poser.pose(&frame_event(&context, 0.0, None));
    assert_eq!((before.presence, before.coefficients), (Presence::Gone, resting));
    poser.pose(&frame_event(&context, 1.0, Some(&winking(&context.model))));
    let mut last = 1.0;
    for step in 1..30 {
        let pose = poser.pose(&frame_event(&context, 1.0 + f64::from(step) / 30.0, None));
        let blink = arkit::value(&pose.coefficients, "eyeBlinkLeft");
        assert!(blink <= last, "the lid opens steadily");
        last = blink;
    }
    let after = poser.pose(&frame_event(&context, 2.0, None));
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
        let plan = Avatar { kind, address, settings: Settings::default() };
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
