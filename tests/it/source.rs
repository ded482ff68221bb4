//! Sources: files, pictures, pipelines, RTSP.

use std::path::Path;
use std::time::{Duration, Instant};

use mmface::image::{Colour, Layout};
use mmface_live::Error;
use mmface_live::frame::{Still, StreamInfo};
use mmface_live::source::{Input, Options, Transport};
use tempfile::TempDir;

use crate::common::rtsp::{LIVE, RtspServer};
use crate::common::seen::{DEADLINE, Seen, name, open, size};
use crate::common::{clip, media};

fn file(path: &Path) -> Input {
    Input::File(path.to_owned())
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The sentence with which a source refuses to open.
fn refused(input: Input) -> String {
    let error = open(Options::new(input)).err().unwrap();
    assert!(matches!(error, Error::Source(_)), "{error:?}");
    error.to_string()
}

#[test]
fn every_frame_of_a_video_comes_in_order() {
    let folder = folder();
    let path = media::video(&folder.path().join("red.mp4"), 45, "pattern=red");
    let (source, counters) = open(Options::new(file(&path))).unwrap();
    let mut seen = Seen::default();
    // A reader that is slower than the decoder still gets all of them.
    seen.watch(&source, |_| {
        std::thread::sleep(Duration::from_millis(5));
        false
    });
    assert_eq!(seen.numbers(), (0..45).collect::<Vec<_>>());
    assert_eq!(seen.reason(), "end of stream");
    assert!(seen.end.as_ref().unwrap().error.is_none());
    let info =
        StreamInfo { width: 320, height: 240, fps: 30.0, codec: "H.264".into(), connection: 1 };
    assert_eq!(seen.connected, [info]);
    for (i, frame) in seen.frames.iter().enumerate() {
        assert!((frame.pts - i as f64 / 30.0).abs() < 0.002, "frame {i} is at {}", frame.pts);
        assert_eq!((frame.connection, &frame.still), (1, &None));
    }
    let length = source.length();
    assert_eq!((length.frames, length.seconds.map(f64::round)), (Some(45), Some(2.0)));
    assert_eq!(counters.decoded.get(), 45);
    assert_eq!(counters.dropped_busy.get(), 0);
    assert!(!source.is_live());
}

#[test]
fn pixels_are_those_of_the_video() {
    let folder = folder();
    let path = media::video(&folder.path().join("red.mp4"), 2, "pattern=red");
    let seen = Seen::all(file(&path));
    let image = seen.frames[1].image();
    assert_eq!((image.width, image.height, image.layout), (320, 240, Layout::I420));
    assert_eq!(image.colour, Colour::BT601);
    // Red in BT.601 of limited range.
    for (plane, (value, rows)) in [(81, 240), (90, 120), (240, 120)].into_iter().enumerate() {
        let samples = image.packed(plane).unwrap();
        let middle = samples[samples.len() / rows * (rows / 2) + 50];
        assert!(middle.abs_diff(value) <= 3, "plane {plane}: {middle} instead of {value}");
    }
}

#[test]
fn a_turned_video_is_upright() {
    let folder = folder();
    let path = media::video(&folder.path().join("turned.mp4"), 3, "");
    // The muxer cannot be asked to turn the video, so its header is told: a rotation by 90°.
    let mut bytes = std::fs::read(&path).unwrap();
    let header = bytes.windows(4).position(|name| name == b"tkhd").unwrap();
    let one = 1 << 16;
    let matrix = [0, one, 0, -one, 0, 0, 240 * one, 0, 1 << 30].map(i32::to_be_bytes);
    bytes[header + 44..header + 80].copy_from_slice(&matrix.concat());
    std::fs::write(&path, bytes).unwrap();
    let seen = Seen::all(file(&path));
    assert_eq!(seen.frames.len(), 3);
    assert_eq!((seen.connected[0].width, seen.connected[0].height), (240, 320));
    assert!(seen.frames.iter().all(|frame| size(frame) == (240, 320)));
}

#[test]
fn a_turned_picture_is_upright() {
    let folder = folder();
    let path = media::picture(&folder.path().join("turned.jpg"), 64, 48);
    // Exif with one entry: orientation (0x112), a short (3), 1 of it, 6: turn right by 90°.
    let exif =
        b"\xff\xe1\0\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.splice(2..2, exif.iter().copied());
    std::fs::write(&path, bytes).unwrap();
    let seen = Seen::all(file(&path));
    assert_eq!(size(&seen.frames[0]), (48, 64));
}

#[test]
fn interlaced_video_keeps_its_frame_rate() {
    let folder = folder();
    let path = folder.path().join("interlaced.mkv");
    media::run(&format!(
        "videotestsrc num-buffers=20 pattern=ball \
         ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 \
         ! interlace field-pattern=1:1 ! x264enc interlaced=true bframes=0 ! h264parse \
         ! matroskamux ! filesink location={}",
        path.display()
    ));
    let seen = Seen::all(file(&path));
    // Each interlaced frame is made of two.
    assert_eq!((seen.frames.len(), seen.reason()), (10, "end of stream"));
}

#[test]
fn sound_is_ignored() {
    let folder = folder();
    let path = folder.path().join("both.mkv");
    media::run(&format!(
        "matroskamux name=mux ! filesink location={} \
         videotestsrc num-buffers=30 ! x264enc bframes=0 speed-preset=ultrafast ! mux. \
         audiotestsrc num-buffers=40 ! vorbisenc ! mux.",
        path.display()
    ));
    let seen = Seen::all(file(&path));
    assert_eq!((seen.frames.len(), seen.reason()), (30, "end of stream"));
}

#[test]
fn realtime_plays_a_file_like_a_camera() {
    let folder = folder();
    let path = media::video(&folder.path().join("v.mp4"), 30, "");
    let options = Options { realtime: true, ..Options::new(file(&path)) };
    let (source, counters) = open(options).unwrap();
    assert!(source.is_live());
    let mut seen = Seen::default();
    seen.watch(&source, |_| {
        std::thread::sleep(Duration::from_millis(200));
        false
    });
    assert_eq!(seen.reason(), "end of stream");
    assert_eq!(seen.numbers().last(), Some(&29));
    let dropped = counters.dropped_busy.get();
    assert!(dropped > 0);
    assert_eq!(seen.frames.len() as u64 + dropped, 30);
}

/// GStreamer's reader of GIFs does not tell the end of a short one.
#[test]
fn a_gif_ends() {
    let folder = folder();
    let path = folder.path().join("dot.gif");
    let dot = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\0\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";
    std::fs::write(&path, dot).unwrap();
    let seen = Seen::all(file(&path));
    assert_eq!((seen.frames.len(), seen.reason()), (1, "end of stream"));
}

#[test]
fn a_picture_is_one_frame_with_a_name() {
    let folder = folder();
    let path = media::picture(&folder.path().join("face.jpg"), 321, 241);
    let seen = Seen::all(file(&path));
    assert_eq!((seen.frames.len(), seen.reason()), (1, "end of stream"));
    let frame = &seen.frames[0];
    assert_eq!(size(frame), (321, 241));
    assert_eq!(frame.still, Some(Still { index: 0, name: "face.jpg".into(), focal: None }));
    assert_eq!(frame.image().layout, Layout::Rgb);
    assert_eq!(seen.connected[0].codec, "JPEG");
}

#[test]
fn files_that_cannot_be_opened_say_why() {
    let folder = folder();
    let missing = refused(file(&folder.path().join("missing.mp4")));
    assert!(missing.contains("missing.mp4 does not exist"), "{missing}");
    let a_folder = refused(file(folder.path()));
    assert!(a_folder.contains("--images"), "{a_folder}");
    let empty = folder.path().join("empty.mp4");
    std::fs::write(&empty, "").unwrap();
    assert!(refused(file(&empty)).contains("is empty"));
}

#[test]
fn files_that_cannot_be_decoded_say_why() {
    let folder = folder();
    let text = folder.path().join("text.mp4");
    std::fs::write(&text, "this is no video\n".repeat(1000)).unwrap();
    let error = Seen::all(file(&text)).error();
    assert!(error.contains("text.mp4 has neither video nor picture"), "{error}");

    let noise = folder.path().join("noise.mp4");
    let bytes = (0..50_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    std::fs::write(&noise, bytes.collect::<Vec<_>>()).unwrap();
    let error = Seen::all(file(&noise)).error();
    assert!(error.contains("noise.mp4 is no video or picture"), "{error}");

    let sound = folder.path().join("sound.ogg");
    let record = "audiotestsrc num-buffers=20 ! vorbisenc ! oggmux ! filesink location=";
    media::run(&format!("{record}{}", sound.display()));
    let error = Seen::all(file(&sound)).error();
    assert!(error.contains("neither video nor picture"), "{error}");

    let whole = media::video(&folder.path().join("whole.mp4"), 45, "pattern=snow");
    let bytes = std::fs::read(&whole).unwrap();
    let mut foreign = bytes.clone();
    while let Some(at) = foreign.windows(4).position(|name| name == b"avc1") {
        foreign[at..at + 4].copy_from_slice(b"xyz1");
    }
    let path = folder.path().join("foreign.mp4");
    std::fs::write(&path, foreign).unwrap();
    let error = Seen::all(file(&path)).error();
    assert!(error.contains("no decoder") && error.contains("gstreamer1.0-libav"), "{error}");

    let headless = folder.path().join("headless.mp4");
    std::fs::write(&headless, &bytes[..bytes.len() / 2]).unwrap();
    let error = Seen::all(file(&headless)).error();
    assert!(error.contains("headless.mp4"), "{error}");
}

#[test]
fn a_video_that_breaks_in_the_middle_keeps_its_frames() {
    let folder = folder();
    let whole = media::video(&folder.path().join("whole.mkv"), 120, "pattern=snow");
    let mut bytes = std::fs::read(&whole).unwrap();
    let half = bytes.len() / 2;
    let cut = folder.path().join("cut.mkv");
    std::fs::write(&cut, &bytes[..half]).unwrap();
    for byte in &mut bytes[half..] {
        *byte = byte.wrapping_mul(31).wrapping_add(7);
    }
    let scrambled = folder.path().join("scrambled.mkv");
    std::fs::write(&scrambled, &bytes).unwrap();
    for broken in [cut, scrambled] {
        let seen = Seen::all(file(&broken));
        let count = seen.frames.len();
        assert!((40..80).contains(&count), "{count} frames of {}", broken.display());
        let error = seen.error();
        assert!(error.contains(&format!("is damaged after {count} frames")), "{error}");
    }
}

/// The decoder leaves frames out without a word.
#[test]
fn frames_that_are_damaged_inside_a_video_are_counted() {
    let folder = folder();
    let mut bytes = std::fs::read(clip("WolfgangLanger_Pexels.mp4")).unwrap();
    for start in [600_000, 900_000] {
        bytes[start..start + 20_000].fill(0);
    }
    let path = folder.path().join("holes.mp4");
    std::fs::write(&path, &bytes).unwrap();
    let (source, counters) = open(Options::new(file(&path))).unwrap();
    let mut seen = Seen::default();
    seen.watch(&source, |_| false);
    let shown = seen.frames.len() as u64;
    let damaged = counters.damaged.get();
    assert_eq!((shown + damaged, damaged > 0), (472, true), "{shown} shown");
}

#[test]
fn pictures_of_a_folder_come_in_the_order_of_their_names() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    media::picture(&path("b.PNG"), 64, 48);
    media::picture(&path("a.jpg"), 320, 240);
    media::picture(&path("d.webp"), 65, 49);
    media::picture(&path("e.bmp"), 40, 30);
    media::picture(&path("f.tif"), 50, 30);
    std::fs::write(path("c.jpg"), "broken").unwrap();
    std::fs::write(path("notes.txt"), "no picture").unwrap();
    let (source, counters) = open(Options::new(Input::Images(folder.path().into()))).unwrap();
    assert_eq!(source.length().frames, Some(6));
    let mut seen = Seen::default();
    seen.watch(&source, |_| false);
    let names: Vec<_> = seen.frames.iter().filter_map(name).collect();
    assert_eq!(names, ["a.jpg", "b.PNG", "d.webp", "e.bmp", "f.tif"]);
    let indices: Vec<_> = seen.frames.iter().flat_map(|f| &f.still).map(|s| s.index).collect();
    assert_eq!(indices, [0, 1, 3, 4, 5], "the broken one has its place");
    let sizes: Vec<_> = seen.frames.iter().map(size).collect();
    assert_eq!(sizes, [(320, 240), (64, 48), (65, 49), (40, 30), (50, 30)]);
    assert_eq!(seen.numbers(), [0, 1, 2, 3, 4]);
    assert_eq!((seen.connected.len(), seen.reason()), (5, "end of stream"));
    assert_eq!(counters.damaged.get(), 1);
}

#[test]
fn folders_without_good_pictures_say_so() {
    let folder = folder();
    assert!(refused(Input::Images(folder.path().into())).contains("there is no picture"));
    assert!(refused(Input::Images(folder.path().join("x"))).contains("cannot be read"));
    let broken = folder.path().join("broken.png");
    std::fs::write(&broken, "broken").unwrap();
    assert!(refused(Input::Images(broken)).contains("--file"));
    let error = Seen::all(Input::Images(folder.path().into())).error();
    assert!(error.contains("broken.png is no picture"), "{error}");
    std::fs::write(folder.path().join("second.jpg"), "broken").unwrap();
    let error = Seen::all(Input::Images(folder.path().into())).error();
    assert!(error.contains("none of 2 pictures"), "{error}");
}

#[test]
fn a_missing_camera_names_those_that_exist() {
    let error = refused(Input::Camera("97".into()));
    assert!(error.contains("/dev/video97"), "{error}");
    assert!(error.contains("--camera") || error.contains("no camera; plug one in"), "{error}");
    let error = Seen::all(Input::Camera("/dev/null".into())).error();
    assert!(error.contains("the camera /dev/null"), "{error}");
}

#[test]
fn pipelines_end_where_ours_begins() {
    let seen = Seen::all(Input::Pipeline("videotestsrc num-buffers=20".into()));
    assert_eq!((seen.frames.len(), seen.reason()), (20, "end of stream"));
    assert_eq!(seen.connected[0].codec, "raw");
    let own = "videotestsrc num-buffers=5 ! videoconvert ! appsink name=mine";
    assert_eq!(Seen::all(Input::Pipeline(own.into())).frames.len(), 5);
}

/// What somebody's own pipeline leaves out is not damaged.
#[test]
fn a_pipeline_may_thin_a_video_out() {
    let clip = clip("single_face.mp4");
    let thin = "decodebin ! videorate ! video/x-raw,framerate=5/1";
    let source = Input::Pipeline(format!("filesrc location={} ! {thin}", clip.display()));
    let (source, counters) = open(Options::new(source)).unwrap();
    let mut seen = Seen::default();
    seen.watch(&source, |_| false);
    let count = seen.frames.len();
    assert!((5..20).contains(&count), "{count} frames");
    assert_eq!(counters.damaged.get(), 0);
}

#[test]
fn pipelines_that_make_no_sense_are_wrong_use() {
    for text in ["nosuchelement", "videotestsrc ! ", "videotestsrc ! audioconvert", ""] {
        let error = open(Options::new(Input::Pipeline(text.into()))).err().unwrap();
        assert_eq!(error.exit_code(), 2, "{text}: {error}");
        assert!(error.to_string().contains("--pipeline"), "{error}");
    }
}

#[test]
fn live_sources_keep_the_newest_frame() {
    let live = "videotestsrc is-live=true num-buffers=30 ! video/x-raw,framerate=60/1";
    let (source, counters) = open(Options::new(Input::Pipeline(live.into()))).unwrap();
    let mut seen = Seen::default();
    seen.watch(&source, |_| {
        std::thread::sleep(Duration::from_millis(100));
        false
    });
    assert!(source.is_live());
    let dropped = counters.dropped_busy.get();
    assert!(dropped > 0);
    assert_eq!(seen.frames.len() as u64 + dropped, 30);
    assert_eq!(seen.numbers().last(), Some(&29), "the last frame is the newest");
    assert!(seen.frames.windows(2).all(|w| w[0].pts < w[1].pts && w[0].number < w[1].number));
}

#[test]
fn a_stuck_decoder_is_not_waited_for() {
    let stuck = Input::Pipeline("videotestsrc ! valve drop=true".into());
    let options = Options { silence: Duration::from_millis(100), ..Options::new(stuck) };
    let (source, _) = open(options).unwrap();
    let mut seen = Seen::default();
    seen.watch(&source, |_| false);
    assert!(seen.error().contains("no frame for"), "{}", seen.error());
}

#[test]
fn a_source_stops_when_asked_and_when_dropped() {
    let endless = || Options::new(Input::Pipeline("videotestsrc".into()));
    let (source, _) = open(endless()).unwrap();
    let mut seen = Seen::default();
    seen.watch(&source, |seen| seen.frames.len() == 3);
    source.stop();
    seen.watch(&source, |_| false);
    assert_eq!(seen.reason(), "stopped");
    assert!(seen.end.unwrap().error.is_none());
    // Nobody fetches these frames: the source waits for room, and is dropped.
    drop(open(endless()).unwrap());
}

#[test]
fn rtsp_plays_with_user_and_password() {
    let server = RtspServer::start(LIVE, 0, Some(("me", "s%c/et")));
    let input = Input::Rtsp(server.url("me:s%25c%2Fet@"));
    assert_eq!(input.label(), format!("rtsp://me:***@127.0.0.1:{}/live", server.port()));
    for transport in [Transport::Auto, Transport::Udp] {
        let options = Options { rtsp_transport: transport, ..Options::new(input.clone()) };
        let (source, _) = open(options).unwrap();
        assert!(source.is_live());
        let mut seen = Seen::default();
        seen.watch(&source, |seen| seen.frames.len() >= 10);
        let info = &seen.connected[0];
        assert_eq!((info.width, info.height, info.codec.as_str()), (320, 240, "H.264"));
        assert!(seen.frames.windows(2).all(|w| w[0].pts < w[1].pts));
        source.stop();
        seen.watch(&source, |_| false);
        assert_eq!(seen.reason(), "stopped");
    }
}

#[test]
fn rtsp_failures_are_final_and_keep_the_password() {
    let server = RtspServer::start(LIVE, 0, Some(("me", "right")));
    let wrong = Seen::all(Input::Rtsp(server.url("me:wrong@"))).error();
    assert!(wrong.contains("refuses this user name or password"), "{wrong}");
    assert!(wrong.contains("me:***@") && !wrong.contains("wrong"), "{wrong}");
    let none = Seen::all(Input::Rtsp(server.url(""))).error();
    assert!(none.contains("wants a user name and a password"), "{none}");
    let nowhere = server.url("me:right@").replace("/live", "/nowhere");
    let nowhere = Seen::all(Input::Rtsp(nowhere)).error();
    assert!(nowhere.contains("knows no such stream"), "{nowhere}");
    let url = server.url("me:right@");
    drop(server);
    let away = Seen::all(Input::Rtsp(url)).error();
    assert!(away.contains("cannot be reached") && !away.contains("right"), "{away}");
}

#[test]
fn a_lost_stream_is_connected_again() {
    let server = RtspServer::start(LIVE, 0, None);
    let (url, port) = (server.url(""), server.port());
    let (source, counters) = open(Options::new(Input::Rtsp(url))).unwrap();
    let mut seen = Seen::default();
    seen.watch(&source, |seen| seen.frames.len() >= 5);
    drop(server);
    std::thread::sleep(Duration::from_millis(500));
    let _server = RtspServer::start(LIVE, port, None);
    seen.watch(&source, |seen| seen.frames.last().is_some_and(|f| f.connection == 2));
    assert_eq!(seen.gaps.len(), 1, "{:?}", seen.gaps);
    assert_eq!(seen.gaps[0].1, 2);
    assert_eq!(seen.connected.iter().map(|i| i.connection).collect::<Vec<_>>(), [1, 2]);
    assert!(seen.numbers().is_sorted_by(|a, b| a < b), "numbers count on");
    assert_eq!(counters.reconnects.get(), 1);
}

#[test]
fn a_lost_stream_is_an_error_where_reconnecting_is_off() {
    let server = RtspServer::start(LIVE, 0, None);
    let options = Options { reconnect: false, ..Options::new(Input::Rtsp(server.url(""))) };
    let (source, _) = open(options).unwrap();
    let mut seen = Seen::default();
    seen.watch(&source, |seen| seen.frames.len() >= 5);
    drop(server);
    seen.watch(&source, |_| false);
    assert!(seen.error().contains("was lost"), "{}", seen.error());
}

#[test]
fn silence_is_noticed() {
    let server = RtspServer::start(LIVE, 0, None);
    let silence = Duration::from_secs(1);
    let options = Options { silence, ..Options::new(Input::Rtsp(server.url(""))) };
    let (source, _) = open(options).unwrap();
    let mut seen = Seen::default();
    seen.watch(&source, |seen| seen.frames.len() >= 5);
    server.mute(true);
    // The connection stays, but nothing comes: the source has to find out by itself.
    std::thread::sleep(Duration::from_millis(1500));
    server.mute(false);
    seen.watch(&source, |seen| seen.frames.last().is_some_and(|f| f.connection == 2));
    assert!(seen.gaps[0].0.contains("no frame for"), "{:?}", seen.gaps);
}

#[test]
fn the_end_of_a_live_stream_is_told_apart() {
    let short = LIVE.replace("is-live=true", "is-live=true num-buffers=20");
    let server = RtspServer::start(&short, 0, None);
    let (source, _) = open(Options::new(Input::Rtsp(server.url("")))).unwrap();
    let mut seen = Seen::default();
    seen.watch(&source, |seen| seen.frames.last().is_some_and(|f| f.connection == 2));
    assert_eq!(seen.gaps[0].0, "the stream ended");
}

#[test]
fn a_server_that_never_answers_is_left() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://{}/live", server.local_addr().unwrap());
    let (source, _) = open(Options::new(Input::Rtsp(url))).unwrap();
    server.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + DEADLINE;
    let _client = loop {
        match server.accept() {
            Ok((client, _)) => break client,
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock, "{e}"),
        }
        assert!(Instant::now() < deadline, "nobody connects");
        std::thread::sleep(Duration::from_millis(5));
    };
    source.stop();
    let mut seen = Seen::default();
    seen.watch(&source, |_| false);
    assert_eq!((seen.frames.len(), seen.reason()), (0, "stopped"));
}

#[test]
fn a_camera_without_tcp_is_reached_over_udp() {
    let server = RtspServer::start_udp_only(LIVE);
    let (source, _) = open(Options::new(Input::Rtsp(server.url("")))).unwrap();
    let mut seen = Seen::default();
    seen.watch(&source, |seen| seen.frames.len() >= 5);
}
