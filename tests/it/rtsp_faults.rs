//! RTSP with faults: packets that are lost, transports that are refused, servers that are late.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow::Continue;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use mmface_live::counters::Counters;
use mmface_live::frame::Frame;
use mmface_live::source::{Input, Options, Source, Transport, Wait};

use crate::common::rtsp::{LIVE, RtspServer};
use crate::common::seen::{DEADLINE, Seen, open};

/// A source with what it gave.
struct Viewer {
    source: Source,
    counters: Arc<Counters>,
    seen: Seen,
}

impl Viewer {
    fn open(options: Options) -> Self {
        let (source, counters) = open(options).unwrap();
        Self { source, counters, seen: Seen::default() }
    }

    /// Takes frames until `enough`, or to the end.
    fn watch(&mut self, enough: impl FnMut(&Seen) -> bool) {
        self.seen.watch(&self.source, enough);
    }

    /// The sentence with which a source fails.
    fn error(options: Options) -> String {
        let mut viewer = Self::open(options);
        viewer.watch(|_| false);
        viewer.seen.error()
    }
}

fn rtsp(url: String) -> Options {
    Options::new(Input::Rtsp(url))
}

/// A stream of a known number of frames, of whose packets some do not leave the server.
struct Lossy {
    server: RtspServer,
    sent: Arc<AtomicU64>,
}

/// Numbers that look random and are the same each time.
struct Chance(u64);

impl Chance {
    fn percent(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % 100
    }
}

/// An encoder with its payloader, and what it sends.
#[derive(Clone, Copy)]
struct Encoder {
    text: &'static str,
    frames: u64,
    fps: f64,
}

/// Frames of the picture that is encoded, at 50 a second.
const FRAMES: u64 = 150;

const fn progressive(text: &'static str) -> Encoder {
    Encoder { text, frames: FRAMES, fps: 50.0 }
}

impl Lossy {
    /// All packets of the last frame are sent: nobody can know of frames after the last packet.
    fn start(encoder: Encoder, loss: u64) -> Self {
        let sent = Arc::new(AtomicU64::new(0));
        let count = sent.clone();
        let description = format!(
            "videotestsrc is-live=true num-buffers={FRAMES} pattern=ball \
             ! video/x-raw,format=I420,width=160,height=120,framerate=50/1 ! {}",
            encoder.text
        );
        let server = RtspServer::start_changed(&description, move |bin| {
            let payloader = bin.by_name("pay0").unwrap();
            let count = count.clone();
            let encoded = payloader.static_pad("sink").unwrap();
            encoded.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                count.fetch_add(1, Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
            // Over UDP the end may overtake the last frame.
            encoded.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
                if info.event().is_some_and(|event| event.type_() == gst::EventType::Eos) {
                    std::thread::sleep(Duration::from_millis(700));
                }
                gst::PadProbeReturn::Ok
            });
            let packets = payloader.static_pad("src").unwrap();
            let state = Mutex::new((Chance(loss), 0));
            let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
            packets.add_probe(kinds, move |_, info| {
                let mut state = state.lock().unwrap();
                let mut is_lost = |packet: &gst::BufferRef| {
                    let (chance, frame) = &mut *state;
                    let edge = *frame == 0 || *frame + 1 >= encoder.frames;
                    *frame += u64::from(packet.map_readable().unwrap()[1] & 0x80 != 0);
                    !edge && chance.percent() < loss
                };
                if let Some(packets) = info.buffer_list_mut() {
                    packets.make_mut().foreach_mut(|packet, _| {
                        Continue(Some(packet).filter(|packet| !is_lost(packet)))
                    });
                    if packets.is_empty() {
                        return gst::PadProbeReturn::Handled;
                    }
                } else if info.buffer().is_some_and(|packet| is_lost(packet)) {
                    return gst::PadProbeReturn::Handled;
                }
                gst::PadProbeReturn::Ok
            });
        });
        Self { server, sent }
    }

    /// Receives all of it.
    fn play(&self, transport: Transport) -> Viewer {
        let options = Options {
            rtsp_transport: transport,
            // So long that a busy machine loses nothing of its own.
            rtsp_latency_ms: 3000,
            reconnect: false,
            ..rtsp(self.server.url(""))
        };
        let mut viewer = Viewer::open(options);
        // In parts, because encoders are slow on a busy machine.
        while viewer.seen.end.is_none() {
            let enough = viewer.seen.frames.len() + 10;
            viewer.watch(|seen| seen.frames.len() >= enough);
        }
        viewer
    }
}

const H264: Encoder = progressive(
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 bitrate=600 \
    ! rtph264pay name=pay0 pt=96 mtu=700",
);
const H264_B: Encoder = progressive(
    "x264enc bframes=3 b-adapt=false speed-preset=ultrafast key-int-max=12 \
    bitrate=600 ! rtph264pay name=pay0 pt=96 mtu=700",
);
const H264_SMALL: Encoder = progressive(
    "x264enc bframes=2 b-adapt=false speed-preset=ultrafast key-int-max=12 \
    bitrate=100 ! rtph264pay name=pay0 pt=96",
);
const H264_INTERLACED: Encoder = Encoder {
    text: "interlace field-pattern=1:1 ! x264enc interlaced=true bframes=2 b-adapt=false \
    speed-preset=ultrafast key-int-max=12 bitrate=600 ! rtph264pay name=pay0 pt=96 mtu=700",
    frames: FRAMES / 2,
    fps: 25.0,
};
const H265: Encoder = progressive(
    "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=10 bitrate=600 \
    ! rtph265pay name=pay0 pt=96 mtu=700",
);
const H265_B: Encoder = progressive(
    "x265enc option-string=bframes=3:b-adapt=0 speed-preset=ultrafast \
    key-int-max=12 bitrate=600 ! h265parse ! rtph265pay name=pay0 pt=96 mtu=700",
);
const JPEG: Encoder = progressive("jpegenc ! rtpjpegpay name=pay0 pt=26");

/// Plays a stream without and with losses, over both transports, and accounts for every frame.
#[track_caller]
fn account(encoder: Encoder) {
    for transport in [Transport::Tcp, Transport::Udp] {
        for loss in [0, 1, 5, 20] {
            let lossy = Lossy::start(encoder, loss);
            let viewer = lossy.play(transport);
            let counted = viewer.counters.frames();
            let sent = lossy.sent.load(Ordering::Relaxed);
            let what = format!("{transport:?}, {loss} %: {counted:?} of {sent}");
            eprintln!("{what}");
            assert_eq!(sent, encoder.frames, "{what}");
            let lost = counted.dropped;
            assert_eq!(counted.decoded + lost.damaged + lost.lost, sent, "{what}");
            if loss == 0 && transport == Transport::Tcp {
                assert_eq!((lost.damaged, lost.lost), (0, 0), "{what}");
            }
            let last = viewer.seen.frames.last().expect("some frames came");
            assert!(last.dropped.lost <= lost.lost && last.dropped.damaged <= lost.damaged);
            even(&viewer.seen.frames, encoder.fps);
        }
    }
}

/// Times increase and lie on the camera's clock, wherever frames are missing.
#[track_caller]
fn even(frames: &[Frame], fps: f64) {
    for pair in frames.windows(2) {
        let steps = (pair[1].pts - pair[0].pts) * fps;
        assert!(steps > 0.9 && (steps - steps.round()).abs() < 0.02, "{steps} frames");
        let before = pair[0].dropped;
        let missing = pair[1].dropped.since(before);
        // All that is missing here is told with the first frame after it.
        let told = missing.busy + missing.damaged + missing.lost;
        assert_eq!(told + 1, steps.round() as u64, "{missing:?}");
    }
}

#[test]
fn every_frame_of_h264_is_accounted_for() {
    account(H264);
}

#[test]
fn every_frame_of_h264_with_b_frames_is_accounted_for() {
    account(H264_B);
}

#[test]
fn every_frame_in_a_packet_of_its_own_is_accounted_for() {
    account(H264_SMALL);
}

#[test]
fn every_interlaced_frame_is_accounted_for() {
    account(H264_INTERLACED);
}

#[test]
fn every_frame_of_h265_is_accounted_for() {
    account(H265);
}

#[test]
fn every_frame_of_h265_with_b_frames_is_accounted_for() {
    account(H265_B);
}

#[test]
fn every_frame_of_motion_jpeg_is_accounted_for() {
    account(JPEG);
}

/// A second viewer joins between key frames: what comes before the next one is counted, but not as
/// lost.
#[test]
fn who_joins_late_loses_nothing() {
    let server = RtspServer::start(&LIVE.replace("key-int-max=5", "key-int-max=20"), 0, None);
    let mut first = Viewer::open(rtsp(server.url("")));
    first.watch(|seen| seen.frames.len() >= 10);
    for transport in [Transport::Tcp, Transport::Udp] {
        let mut second =
            Viewer::open(Options { rtsp_transport: transport, ..rtsp(server.url("")) });
        second.watch(|seen| seen.frames.len() >= 10);
        assert_eq!(second.counters.lost.get(), 0, "{transport:?}");
        assert!(second.counters.damaged.get() < 20, "{transport:?}");
        even(&second.seen.frames, 15.0);
    }
}

#[test]
fn a_refused_transport_is_told_and_the_other_one_taken() {
    let server = RtspServer::start_udp_only(LIVE);
    assert!(setup(&server, "RTP/AVP/TCP;unicast;interleaved=0-1").contains("461"));
    let tcp = Options { rtsp_transport: Transport::Tcp, ..rtsp(server.url("")) };
    let error = Viewer::error(tcp);
    assert!(error.contains("refuses to send over TCP"), "{error}");
    // It is left at once: there is no time for a second attempt.
    let auto = Options { wait: Some(Wait::For(Duration::ZERO)), ..rtsp(server.url("")) };
    let mut viewer = Viewer::open(auto);
    viewer.watch(|seen| seen.frames.len() >= 5);
    let server = RtspServer::start_tcp_only(LIVE);
    assert!(setup(&server, "RTP/AVP;unicast;client_port=50000-50001").contains("461"));
    let udp = Options { rtsp_transport: Transport::Udp, ..rtsp(server.url("")) };
    let error = Viewer::error(udp);
    assert!(error.contains("refuses to send over UDP"), "{error}");
}

/// The first line of the answer to a SETUP with this transport.
fn setup(server: &RtspServer, transport: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let url = server.url("");
    let mut answer = String::new();
    for (number, request) in [
        format!("DESCRIBE {url} RTSP/1.0\r\nAccept: application/sdp"),
        format!("SETUP {url}/stream=0 RTSP/1.0\r\nTransport: {transport}"),
    ]
    .iter()
    .enumerate()
    {
        write!(connection, "{request}\r\nCSeq: {}\r\n\r\n", number + 1).unwrap();
        let mut reader = BufReader::new(&connection);
        (answer, _) = message(&mut reader).unwrap();
    }
    answer
}

/// First line and header of a message of RTSP; its body is passed over.
fn message(reader: &mut impl BufRead) -> Option<(String, String)> {
    let mut line = |text: &mut String| reader.read_line(text).ok().filter(|&n| n > 0);
    let (mut first, mut header) = (String::new(), String::new());
    line(&mut first)?;
    while line(&mut header)? > 2 {}
    let length = header
        .to_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length:").and_then(|n| n.trim().parse().ok()));
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((first, header))
}

#[test]
fn a_stream_of_sound_has_no_video() {
    let sound = "audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0";
    let error = Viewer::error(rtsp(RtspServer::start(sound, 0, None).url("")));
    assert!(error.contains("has no video"), "{error}");
}

/// A server of which only the answers matter.
struct Scripted {
    url: String,
    requests: Arc<AtomicU64>,
}

impl Scripted {
    /// Answers every request with this status.
    fn start(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("rtsp://me:secret@{}/live", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicU64::new(0));
        let counted = requests.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let connection = connection.unwrap();
                let counted = counted.clone();
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(&connection);
                    while let Some((_, header)) = message(&mut reader) {
                        counted.fetch_add(1, Ordering::Relaxed);
                        let number = header.lines().find(|line| line.starts_with("CSeq")).unwrap();
                        write!(&connection, "RTSP/1.0 {status}\r\n{number}\r\n\r\n").unwrap();
                    }
                });
            }
        });
        Self { url, requests }
    }
}

#[test]
fn a_stream_that_is_not_there_yet_is_waited_for_if_asked() {
    let missing = Scripted::start("404 Not Found");
    let error = Viewer::error(rtsp(missing.url.clone()));
    assert!(error.contains("knows no such stream"), "{error}");
    let wait = Some(Wait::Forever);
    let viewer = Viewer::open(Options { wait, ..rtsp(missing.url.clone()) });
    let before = missing.requests.load(Ordering::Relaxed);
    let deadline = Instant::now() + DEADLINE;
    while missing.requests.load(Ordering::Relaxed) < before + 4 {
        assert!(Instant::now() < deadline, "nobody asks again");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(viewer.source.events.try_recv().is_err(), "it goes on");
    // Who has no permission does not get it by waiting.
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let refused = Scripted::start(status);
        let error = Viewer::error(Options { wait, ..rtsp(refused.url) });
        assert!(error.contains("refuses this user name or password"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn what_never_worked_was_not_lost() {
    let broken = Scripted::start("500 Internal Server Error");
    let wait = Some(Wait::For(Duration::ZERO));
    let error = Viewer::error(Options { wait, ..rtsp(broken.url) });
    assert!(!error.contains("lost") && error.contains("sends no picture"), "{error}");
}

#[test]
fn a_camera_that_starts_later_is_waited_for() {
    // Nobody listens on a port that was just given back.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("rtsp://127.0.0.1:{port}/live");
    let mut viewer = Viewer::open(Options { wait: Some(Wait::Forever), ..rtsp(url) });
    std::thread::sleep(Duration::from_millis(300));
    let _server = RtspServer::start(LIVE, port, None);
    viewer.watch(|seen| seen.frames.len() >= 3);
}

#[test]
fn times_go_on_through_reconnects() {
    let server = RtspServer::start(LIVE, 0, None);
    let (url, port) = (server.url(""), server.port());
    let mut viewer = Viewer::open(rtsp(url));
    viewer.watch(|seen| seen.frames.len() >= 30);
    drop(server);
    let _server = RtspServer::start(LIVE, port, None);
    viewer.watch(|seen| seen.frames.iter().filter(|frame| frame.connection == 2).count() >= 10);
    assert_eq!(viewer.seen.gaps.len(), 1);
    assert!(viewer.seen.frames.is_sorted_by(|a, b| a.pts < b.pts));
    let first = viewer.seen.frames.iter().position(|frame| frame.connection == 2).unwrap();
    let (before, after) = (&viewer.seen.frames[first - 1], &viewer.seen.frames[first]);
    let away = after.arrived.duration_since(before.arrived).as_secs_f64();
    // A frame or two may have been dropped as busy there.
    assert!((after.pts - before.pts - away).abs() < 0.5, "{before:?}, {after:?}, {away}");
}

#[test]
fn the_camera_tells_its_time() {
    let server = RtspServer::start(LIVE, 0, None);
    for rtsp_transport in [Transport::Tcp, Transport::Udp] {
        let mut viewer = Viewer::open(Options { rtsp_transport, ..rtsp(server.url("")) });
        viewer.watch(|seen| seen.frames.iter().filter(|frame| frame.taken.is_some()).count() >= 10);
        let told = viewer.seen.frames.iter().filter_map(|frame| Some((frame.taken?, frame.time)));
        for (taken, arrived) in told {
            // Both are on one machine and have one clock.
            let late = arrived.duration_since(taken).unwrap_or_default();
            let early = taken.duration_since(arrived).unwrap_or_default();
            assert!(late < Duration::from_secs(5) && early < Duration::from_millis(200));
        }
    }
}

/// A relay that notes the methods of all requests.
fn relay(port: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let methods = Arc::new(Mutex::new(Vec::new()));
    let noted = methods.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let noted = noted.clone();
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = client.read(&mut bytes) {
                    let text = String::from_utf8_lossy(&bytes[..count]);
                    if text.contains(" RTSP/1.0\r\n") {
                        let method = text.split(' ').next().unwrap_or_default();
                        noted.lock().unwrap().push(method.into());
                    }
                    server.write_all(&bytes[..count]).unwrap();
                }
            });
        }
    });
    (own, methods)
}

#[test]
fn a_session_over_tcp_is_kept_alive() {
    let server = RtspServer::start(LIVE, 0, None);
    let (port, methods) = relay(server.port());
    let mut viewer = Viewer::open(Options {
        rtsp_transport: Transport::Tcp,
        ..rtsp(format!("rtsp://127.0.0.1:{port}/live"))
    });
    let count = |methods: &Mutex<Vec<String>>| {
        methods.lock().unwrap().iter().filter(|m| m.contains("GET_PARAMETER")).count()
    };
    viewer.watch(|_| count(&methods) >= 2);
    // Nothing is lost by it.
    viewer.watch(|seen| seen.frames.len() % 50 == 0);
    assert_eq!((viewer.seen.gaps.len(), viewer.counters.lost.get()), (0, 0));
    assert_eq!(viewer.counters.damaged.get(), 0);
}
