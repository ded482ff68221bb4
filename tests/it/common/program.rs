//! Runs the real program, never longer than a deadline, and checks every line that it writes.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mmface::record::{Dropped, End, FaceRecord, Frame, Header, Record, Stream};
use serde_json::Value;

/// No run of a test takes so long, not even on a busy machine; whatever does hangs.
const DEADLINE: Duration = Duration::from_secs(180);

/// The schema that ships, ready to judge lines.
pub static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let text = std::fs::read(super::root().join("docs/schema.json")).unwrap();
    jsonschema::validator_for(&serde_json::from_slice(&text).unwrap()).unwrap()
});

/// The program on the CPU, unless the arguments name a device: where there is a GPU it is to say the
/// same as elsewhere. In the checkout, with nothing of the caller's environment that would change it.
pub fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = on_any_device(arguments);
    let first = command.get_args().next().unwrap_or_default();
    let computes = first == "eval" || first.as_encoded_bytes().starts_with(b"-");
    if computes && command.get_args().all(|argument| argument != "--device") {
        command.args(["--device", "cpu"]);
    }
    command
}

/// The same, on the device that the arguments name or else on the one that the program chooses.
pub fn on_any_device<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmface-live"));
    command.args(arguments).current_dir(super::root()).stdin(Stdio::null());
    for name in [
        "RUST_LOG",
        "MMFACE_ENGINES",
        "MMFACE_ENGINE_CACHE",
        "MMFACE_OPENVINO",
        "MMFACE_DETECTOR_MODEL",
        "MMFACE_PLOTLY",
        "MMFACE_TENSORRT",
        "MMFACE_LISTEN_TOKEN",
    ] {
        command.env_remove(name);
    }
    // What it keeps for its user is no business of whoever runs the tests.
    command.env("XDG_CONFIG_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// Runs the program to its end.
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Done {
    Running::start(command(arguments)).finish()
}

/// Runs the program, which must succeed, and reads its records.
pub fn records<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Records {
    run(arguments).records()
}

/// The exit code of a command whose outputs go elsewhere.
pub fn exit_code(mut command: Command) -> Option<i32> {
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{command:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program as a shell starts it: `$0` and what follows are program and arguments.
pub fn shell(script: &str, program: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(program.get_program()).args(program.get_args());
    shell.current_dir(super::root()).stdin(Stdio::null());
    for (name, _) in program.get_envs().filter(|(_, value)| value.is_none()) {
        shell.env_remove(name);
    }
    shell
}

/// A program that runs. Dropping it kills it.
pub struct Running {
    child: Child,
    lines: Option<Receiver<Vec<u8>>>,
    stdout: Vec<u8>,
    stderr: Option<JoinHandle<String>>,
    deadline: Instant,
}

/// A program that has ended.
pub struct Done {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        #[expect(clippy::disallowed_methods, reason = "a program must not wait for its test")]
        let (sender, lines) = channel();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            loop {
                let mut line = Vec::new();
                let read = stdout.read_until(b'\n', &mut line).unwrap();
                // Dropping this end of the pipe is what a reader does that leaves.
                if read == 0 || sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut pipe = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let deadline = Instant::now() + DEADLINE;
        Self { child, lines: Some(lines), stdout: Vec::new(), stderr: Some(stderr), deadline }
    }

    /// Reads lines until one satisfies `enough`; the output must not end before.
    pub fn read_until(&mut self, mut enough: impl FnMut(&Record) -> bool) {
        while let Some(line) = self.line() {
            if enough(&record(&line)) {
                return;
            }
        }
        let stderr = self.stderr.take().unwrap().join().unwrap();
        panic!("the records ended too early: {stderr}");
    }

    /// The next line; `None` at the end of the output.
    fn line(&mut self) -> Option<Vec<u8>> {
        let patience = self.deadline.saturating_duration_since(Instant::now());
        match self.lines.as_ref()?.recv_timeout(patience) {
            Ok(line) => {
                self.stdout.extend(&line);
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => self.hangs(),
        }
    }

    /// Waits until `enough`; the program must not end before.
    pub fn wait_until(&mut self, enough: impl Fn() -> bool) {
        while !enough() {
            assert_eq!(self.child.try_wait().unwrap(), None, "the program ended too early");
            if Instant::now() > self.deadline {
                self.hangs();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Forgets the lines that were read, and starts its patience anew: for runs of hours.
    pub fn forget(&mut self) {
        self.stdout.clear();
        self.deadline = Instant::now() + DEADLINE;
    }

    /// Closes the reading end of standard output (once the line after the last one has come).
    pub fn stop_reading(&mut self) {
        self.lines = None;
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Done {
        while self.line().is_some() {}
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            if Instant::now() > self.deadline {
                self.hangs();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let stderr = self.stderr.take().unwrap().join().unwrap();
        assert!(!stderr.contains("panic"), "{stderr}");
        Done { code, stdout: std::mem::take(&mut self.stdout), stderr }
    }

    fn hangs(&mut self) -> ! {
        self.child.kill().unwrap();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        panic!("the program does not end; so far it said: {stderr}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Done {
    /// What it wrote to standard output, which must be a whole run.
    pub fn records(&self) -> Records {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        Records::read(&self.stdout)
    }

    /// The one sentence with which it failed.
    pub fn failure(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let errors: Vec<_> = self.stderr.lines().filter(|l| l.contains("ERROR")).collect();
        let [error] = errors[..] else { panic!("not one error: {}", self.stderr) };
        error
    }
}

/// One line, checked against the schema.
fn record(line: &[u8]) -> Record {
    let text = String::from_utf8_lossy(line);
    let value: Value = serde_json::from_slice(line).unwrap_or_else(|e| panic!("{e}: {text}"));
    if let Err(error) = SCHEMA.validate(&value) {
        panic!("{error}, at {}: {text}", error.instance_path());
    }
    serde_json::from_value(value).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The records of a whole run.
pub struct Records {
    pub header: Header,
    pub streams: Vec<Stream>,
    pub frames: Vec<Frame>,
    pub end: End,
    /// All of them, in their order.
    pub all: Vec<Record>,
}

impl Records {
    /// Reads the lines of a run that ended well, and checks all that holds for every run.
    pub fn read(lines: &[u8]) -> Self {
        assert!(lines.ends_with(b"\n"), "the last line has no end");
        let all: Vec<Record> = lines.split_inclusive(|b| *b == b'\n').map(record).collect();
        let [Record::Header(header), middle @ .., Record::End(end)] = &all[..] else {
            panic!("not header … end: {} lines", all.len());
        };
        let (mut streams, mut frames) = (Vec::new(), Vec::<Frame>::new());
        for one in middle {
            match one {
                Record::Stream(stream) => streams.push(stream.clone()),
                Record::Frame(frame) => frames.push(frame.clone()),
                Record::Gap(_) | Record::Lost(_) => {}
                Record::Header(_) | Record::End(_) => panic!("a second header or end"),
            }
        }
        let this = Self { header: *header.clone(), streams, frames, end: end.clone(), all };
        this.check();
        this
    }

    fn check(&self) {
        let Self { frames, end, .. } = self;
        let names: Vec<_> = self.all.iter().map(stream_of).collect();
        assert!(names.iter().all(|name| *name == self.header.stream));
        assert!(frames.windows(2).all(|w| w[0].frame < w[1].frame), "numbers must count up");
        // Each connection counts its own time.
        let pairs = self.all.windows(2).filter_map(|pair| match pair {
            [Record::Frame(a), Record::Frame(b)] => Some((a.pts, b.pts)),
            _ => None,
        });
        assert!(pairs.into_iter().all(|(a, b)| a < b), "time must go on");
        assert_eq!(end.frames.processed, frames.len() as u64);
        let Dropped { busy, skipped, .. } = end.frames.dropped;
        assert_eq!(end.frames.decoded, end.frames.processed + busy + skipped);
        let ids: std::collections::BTreeSet<_> = self.faces().map(|f| f.id).collect();
        assert_eq!(end.faces, ids.len() as u64);
        let (identity, expressions) =
            (self.header.face_model.identity, self.header.face_model.expressions.len());
        for face in self.faces() {
            assert_eq!((face.identity.len(), face.expression.len()), (identity, expressions));
            assert!((0.0..=1.0).contains(&face.confidence), "{}", face.confidence);
            assert!(face.expression.iter().all(|e| (0.0..=1.0).contains(e)));
        }
        for frame in frames {
            assert!(frame.faces.windows(2).all(|w| w[0].id < w[1].id), "faces come by id");
        }
    }

    /// Expressions without `eyeLook…`, which follow from where the eyes look.
    pub fn without_eyes(&self, expression: &[f32]) -> Vec<f32> {
        let named = self.header.face_model.expressions.iter().zip(expression);
        named.filter(|(name, _)| !name.starts_with("eyeLook")).map(|(_, value)| *value).collect()
    }

    /// All faces of all frames.
    pub fn faces(&self) -> impl Iterator<Item = &FaceRecord> {
        self.frames.iter().flat_map(|frame| &frame.faces)
    }

    /// Ids of the faces, of each frame within these seconds.
    pub fn ids_within(&self, seconds: std::ops::Range<f64>) -> Vec<Vec<u64>> {
        let frames = self.frames.iter().filter(|frame| seconds.contains(&frame.pts));
        frames.map(|frame| frame.faces.iter().map(|f| f.id).collect()).collect()
    }
}

fn stream_of(record: &Record) -> &str {
    match record {
        Record::Header(r) => &r.stream,
        Record::Stream(r) => &r.stream,
        Record::Frame(r) => &r.stream,
        Record::Gap(r) => &r.stream,
        Record::Lost(r) => &r.stream,
        Record::End(r) => &r.stream,
    }
}
