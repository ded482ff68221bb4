//! Files whose tracks, times and pixels are unusual but right, and streams over HTTP.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mmface_live::source::{Input, Options};

use crate::common::program::{Records, Running, command, records, run, shell};
use crate::common::seen::{Seen, open};
use crate::common::{clip, media, root};

/// Frames, in GStreamer's words: 60 of 320×240, 30 a second.
const VIDEO: &str = "videotestsrc num-buffers=60 pattern=ball \
    ! video/x-raw,format=I420,width=320,height=240,framerate=30/1";
const H264: &str = "x264enc bframes=0 speed-preset=ultrafast key-int-max=15 ! h264parse";

/// A tone of so many hundredths of a second, 48 kHz.
fn tone(hundredths: u32) -> String {
    format!(
        "audiotestsrc num-buffers={hundredths} samplesperbuffer=480 \
         ! audio/x-raw,rate=48000,channels=1 ! opusenc ! queue max-size-time=0"
    )
}

fn all(path: &Path) -> Seen {
    Seen::all(Input::File(path.to_owned()))
}

fn is_whole(seen: &Seen, what: &str) {
    assert_eq!((seen.frames.len(), seen.reason()), (60, "end of stream"), "{what}");
    assert!(seen.end.as_ref().unwrap().error.is_none(), "{what}");
}

#[test]
fn sound_may_be_longer_than_the_video() {
    let folder = tempfile::tempdir().unwrap();
    for (file, muxer) in [("a.mp4", "qtmux"), ("a.mkv", "matroskamux"), ("a.ts", "mpegtsmux")] {
        let path = folder.path().join(file);
        media::run(&format!(
            "{VIDEO} ! {H264} ! queue ! {muxer} name=out ! filesink location={} {} ! out.",
            path.display(),
            tone(1000)
        ));
        is_whole(&all(&path), file);
    }
}

#[test]
fn a_video_may_begin_late() {
    let folder = tempfile::tempdir().unwrap();
    for (file, muxer) in [("a.mp4", "qtmux"), ("a.mkv", "matroskamux"), ("a.ts", "mpegtsmux")] {
        let path = folder.path().join(file);
        // qtmux writes an empty edit of 60 seconds in front of the video.
        let late = VIDEO.replace("videotestsrc", "videotestsrc timestamp-offset=60000000000");
        media::run(&format!(
            "{late} ! {H264} ! queue ! {muxer} name=out ! filesink location={} {} ! out.",
            path.display(),
            tone(6300)
        ));
        is_whole(&all(&path), file);
    }
    let path = folder.path().join("alone.mkv");
    let late = VIDEO.replace("videotestsrc", "videotestsrc timestamp-offset=5000000000");
    media::run(&format!("{late} ! {H264} ! matroskamux ! filesink location={}", path.display()));
    is_whole(&all(&path), "a time that begins at 5 s");
}

#[test]
fn a_video_that_breaks_off_is_still_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    media::run(&format!(
        "{VIDEO} ! {H264} ! queue ! qtmux faststart=true name=out ! filesink location={} {} ! out.",
        path.display(),
        tone(1000)
    ));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 5]).unwrap();
    let error = all(&path).error();
    assert!(error.contains("is damaged"), "{error}");
}

#[test]
fn pixels_are_made_square() {
    let folder = tempfile::tempdir().unwrap();
    for (ratio, size) in [("2/1", (640, 240)), ("1/2", (160, 240)), ("1/1", (320, 240))] {
        let path = folder.path().join("a.mkv");
        let squeezed = format!("{VIDEO},pixel-aspect-ratio={ratio}");
        media::run(&format!(
            "{squeezed} ! {H264} ! matroskamux ! filesink location={}",
            path.display()
        ));
        let seen = all(&path);
        is_whole(&seen, ratio);
        let info = &seen.connected[0];
        assert_eq!((info.width, info.height), size, "{ratio}");
    }
}

/// As telephones store them: lying down, with a tag that says how to turn them.
#[test]
fn turned_videos_are_shown_upright() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip("single_face.mp4");
    let upright = records([Path::new("--file"), &clip]);
    for (stored, tag) in [("counterclockwise", "rotate-90"), ("rotate-180", "rotate-180")] {
        let path = folder.path().join(format!("{tag}.mp4"));
        media::run(&format!(
            "filesrc location={} ! decodebin ! videoconvert ! videoflip method={stored} \
             ! x264enc speed-preset=ultrafast qp-min=10 qp-max=15 ! h264parse \
             ! taginject tags=image-orientation={tag} ! mp4mux ! filesink location={}",
            clip.display(),
            path.display()
        ));
        let seen = records([Path::new("--file"), &path]);
        let size = |records: &Records| (records.streams[0].width, records.streams[0].height);
        assert_eq!(size(&seen), size(&upright), "{tag}");
        assert_eq!(seen.frames.len(), upright.frames.len());
        let (a, b) = (&seen.frames[30].faces[0], &upright.frames[30].faces[0]);
        for (k, (a, b)) in a.t.iter().zip(&b.t).take(2).enumerate() {
            assert!((a - b).abs() < 6.0, "{tag}: axis {k}: {a} instead of {b}");
        }
        assert!((a.r[2] - b.r[2]).abs() < 3.0, "{tag}: {:?} instead of {:?}", a.r, b.r);
    }
}

#[test]
fn motion_jpeg_of_a_rare_sampling_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let picture = root().join("tests/data/pictures/s411.jpg");
    for (file, muxer) in [("a.avi", "avimux"), ("a.mkv", "matroskamux")] {
        let path = folder.path().join(file);
        media::run(&format!(
            "multifilesrc location={} num-buffers=5 caps=image/jpeg,framerate=25/1 ! jpegparse \
             ! {muxer} ! filesink location={}",
            picture.display(),
            path.display()
        ));
        let seen = all(&path);
        assert!(seen.frames.is_empty(), "{file}: {} frames", seen.frames.len());
        assert!(seen.error().contains("are sampled 4x1"), "{}", seen.error());
    }
}

#[test]
fn animations_give_a_picture_and_say_so() {
    for name in ["anim.webp", "anim.png"] {
        let path = root().join("tests/data/pictures").join(name);
        let done = run(["--file", path.to_str().unwrap()]);
        assert_eq!(done.records().frames.len(), 1);
        assert!(done.stderr.contains("animation"), "{}", done.stderr);
    }
}

/// The header of a PNG of so many pixels a side, without any.
fn huge_png(path: &Path, side: u32) {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    png.extend([side.to_be_bytes(), side.to_be_bytes()].concat());
    png.extend([8, 2, 0, 0, 0]);
    let mut crc = u32::MAX;
    for byte in &png[12..] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    png.extend((!crc).to_be_bytes());
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82");
    std::fs::write(path, png).unwrap();
}

#[test]
fn pictures_larger_than_the_limit_are_not_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.png");
    huge_png(&path, 60_000);
    let file = path.to_str().unwrap();
    let error = run(["--file", file]);
    let error = error.failure(3);
    assert!(error.contains("huge.png") && error.contains("--max-pixels"), "{error}");
    // Memory that there is not: a sentence, not an abort.
    let program = command(["--file", file, "--max-pixels", "4000000000"]);
    let limited = Running::start(shell("ulimit -v 4000000 && exec \"$0\" \"$@\"", &program));
    let limited = limited.finish();
    let error = limited.failure(3);
    assert!(error.contains("huge.png"), "{error}");
}

/// What a server answers to a request for a path.
type Answer = dyn Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync;

/// A server on a free port: its address.
fn server(answer: Arc<Answer>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut request = BufReader::new(client.try_clone().unwrap()).lines();
                let path = request.next().and_then(Result::ok).unwrap_or_default();
                let path = path.split(' ').nth(1).unwrap_or_default().to_owned();
                while request.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
                // A client that leaves is no failure of the server.
                let _ = answer(&path, &mut client);
            });
        }
    });
    format!("http://{address}")
}

fn whole(client: &mut TcpStream, kind: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    )?;
    client.write_all(body)
}

/// Motion JPEG as cameras send it, until the client leaves or after `most` frames.
fn motion_jpeg(client: &mut TcpStream, jpeg: &[u8], most: usize) -> std::io::Result<()> {
    write!(
        client,
        "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
    )?;
    for _ in 0..most {
        write!(
            client,
            "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
            jpeg.len()
        )?;
        client.write_all(jpeg)?;
        write!(client, "\r\n")?;
        std::thread::sleep(std::time::Duration::from_millis(30));
    }
    Ok(())
}

#[test]
fn motion_jpeg_over_http_is_a_camera_that_is_reconnected() {
    let folder = tempfile::tempdir().unwrap();
    let jpeg = std::fs::read(media::picture(&folder.path().join("a.jpg"), 320, 240)).unwrap();
    let connections = AtomicU32::new(0);
    let url = server(Arc::new(move |_, client| {
        let first = connections.fetch_add(1, Ordering::Relaxed) == 0;
        motion_jpeg(client, &jpeg, if first { 20 } else { usize::MAX })
    }));
    let (source, _) = open(Options::new(Input::Http(url + "/video"))).unwrap();
    let mut seen = Seen::default();
    seen.watch(&source, |seen| {
        seen.frames.iter().filter(|frame| frame.connection == 2).count() >= 5
    });
    assert!(source.is_live());
    assert_eq!(seen.gaps.len(), 1);
    assert_eq!((seen.connected[0].width, seen.connected[0].height), (320, 240));
    assert!(
        seen.frames
            .windows(2)
            .all(|pair| { pair[0].connection < pair[1].connection || pair[0].pts < pair[1].pts })
    );
}

#[test]
fn hls_over_http_is_played_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let segment = std::fs::read(media::video(&folder.path().join("a.ts"), 60, "")).unwrap();
    let list = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n\
                #EXTINF:2.0,\na.ts\n#EXT-X-ENDLIST\n";
    let url = server(Arc::new(move |path, client| match path {
        "/live.m3u8" => whole(client, "application/vnd.apple.mpegurl", list.as_bytes()),
        _ => whole(client, "video/mp2t", &segment),
    }));
    let done = records(["--url", &(url + "/live.m3u8")]);
    assert_eq!((done.frames.len(), &*done.end.reason), (60, "end of stream"));
}

#[test]
fn what_a_server_refuses_is_told_at_once() {
    let refusing = server(Arc::new(|path, client| match path {
        "/secret" => client.write_all(
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"cam\"\r\n\
              Content-Length: 0\r\nConnection: close\r\n\r\n",
        ),
        "/page" => whole(client, "text/html", b"<html><body>A camera's page</body></html>"),
        _ => client
            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    }));
    for (path, words) in [
        ("/secret", "refuses this user name or password"),
        ("/nothing", "is not there"),
        ("/page", "is no video"),
    ] {
        let done = run(["--url", &format!("{refusing}{path}")]);
        let error = done.failure(3);
        assert!(error.contains(words), "{path}: {error}");
    }
    let with_password = refusing.replace("http://", "http://me:hunter2@");
    for flag in ["--file", "--rtsp", "--url"] {
        let done = run([flag, &format!("{with_password}/secret")]);
        assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
        assert_ne!(done.code, Some(0));
        if flag != "--url" {
            assert!(done.stderr.contains("--url"), "{flag}: {}", done.stderr);
        }
    }
}

#[test]
fn a_picture_without_a_focal_length_is_named() {
    let picture = root().join("vendor/media/single_face.jpg");
    let picture = picture.to_str().unwrap();
    let done = run(["--file", picture, "--focal", "exif"]);
    assert!(
        done.stderr.contains("single_face.jpg does not say its focal length"),
        "{}",
        done.stderr
    );
    assert!(done.records().faces().all(|face| face.camera.is_none()));
    let seen = records(["--file", picture, "--fov", "60"]);
    assert_eq!(seen.header.lens.as_deref(), Some("fov 60"));
    let camera = seen.faces().next().unwrap().camera.unwrap();
    assert!((-200.0..-10.0).contains(&camera.t[2]), "{camera:?}");
}
