//! One detector for all streams, on a thread of its own, so that detections do not delay frames.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};

use super::{Canvas, Detection, Detector, Opened, Prepare, Scaling, merged};
use crate::error::{Error, Result};
use crate::image::Image;

/// How often a waiting client checks that the detector's thread still runs.
const GLANCE: std::time::Duration = std::time::Duration::from_millis(200);

/// Longest side of the canvas on which faces are found that fill a picture. On a large canvas the
/// detector misses them, or takes an eye or a mouth for a face.
const CLOSE_UP: u32 = 480;

/// The result of a detection.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The faces, in pixels of the image.
    pub(crate) faces: Vec<Detection>,
    /// How long the detection took, scaling included, in milliseconds.
    pub(crate) took_ms: f64,
}

struct Question {
    /// Copies of one image, of different sizes.
    canvases: Vec<Canvas>,
    /// Whether faces that lie on their side or stand on their head are looked for if there is no
    /// other.
    thorough: bool,
    answer: Sender<Result<Answer>>,
}

/// Owns the detector's thread, which ends when the service is dropped. Clients keep the service
/// alive.
pub(crate) struct Service {
    prepare: Prepare,
    // `drop` takes the sender before it joins the thread; a closed channel ends the thread.
    questions: Option<Sender<Question>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`Error::Device`] if no thread can be started.
    pub(crate) fn start(opened: Opened) -> Result<Self> {
        let Opened { mut detector, prepare } = opened;
        #[expect(
            clippy::disallowed_methods,
            reason = "holds at most one question per client: a client asks again only after an answer"
        )]
        let (questions, asked) = unbounded::<Question>();
        let work = move || {
            for Question { canvases, thorough, answer } in asked {
                let started = Instant::now();
                let found = look(&mut *detector, &canvases, thorough).map(|faces| {
                    let took_ms = started.elapsed().as_secs_f64() * 1e3;
                    Answer { faces, took_ms }
                });
                // Fails if the client is gone.
                let _ = answer.send(found);
            }
        };
        let thread = std::thread::Builder::new()
            .name("detect".into())
            .spawn(work)
            .map_err(|e| Error::Device(format!("cannot start a thread: {e}")))?;
        Ok(Self { prepare, questions: Some(questions), thread: Some(thread) })
    }

    fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// A stream's access to the detector; `size` is the longest side of its canvases, see
    /// [`Scaling::new`]. If `thorough`, each image is also looked at on a canvas of
    /// [`CLOSE_UP`] pixels, which is turned if there is no upright face.
    pub(crate) fn client(self: &Arc<Self>, size: Option<u32>, thorough: bool) -> Client {
        let (answer, answers) = bounded(1);
        let service = self.clone();
        Client { service, size, thorough, answer, answers, prepared_ms: 0.0, busy: false }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the detector has been reported as a missing answer.
            let _ = thread.join();
        }
    }
}

/// One stream's access to the detector. It processes one image at a time.
pub(crate) struct Client {
    service: Arc<Service>,
    /// Longest side of the canvases; `None` derives it from the image's size.
    size: Option<u32>,
    thorough: bool,
    answer: Sender<Result<Answer>>,
    answers: Receiver<Result<Answer>>,
    /// How long it took to make the canvas, in milliseconds.
    prepared_ms: f64,
    busy: bool,
}

impl Client {
    /// Whether a detection is running.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Starts a detection on a small copy of the image; does nothing if one is running.
    ///
    /// # Errors
    /// [`Error::Image`] or [`Error::Device`] if the copy cannot be made, [`Error::Bug`] if the
    /// detector's thread has ended.
    pub(crate) fn ask(&mut self, image: &Image) -> Result<()> {
        if self.busy {
            return Ok(());
        }
        let started = Instant::now();
        let scaled =
            |size| (self.service.prepare)(image, Scaling::new(image.width, image.height, size));
        let canvas = scaled(self.size)?;
        let longer = canvas.scaling.scaled.into_iter().max().unwrap_or_default();
        let mut canvases = vec![canvas];
        if self.thorough && longer > CLOSE_UP as i32 * 4 / 3 {
            canvases.push(scaled(Some(CLOSE_UP))?);
        }
        self.prepared_ms = started.elapsed().as_secs_f64() * 1e3;
        let question = Question { canvases, thorough: self.thorough, answer: self.answer.clone() };
        let sent = self.service.questions.as_ref().map(|questions| questions.send(question));
        self.busy = matches!(sent, Some(Ok(())));
        if self.busy { Ok(()) } else { Err(gone()) }
    }

    /// The answer, if it has arrived.
    ///
    /// # Errors
    /// The detector's errors; [`Error::Bug`] if its thread has ended.
    pub(crate) fn poll(&mut self) -> Result<Option<Answer>> {
        match self.answers.try_recv() {
            Ok(answer) => self.take(answer).map(Some),
            Err(TryRecvError::Empty) if self.service.is_running() => Ok(None),
            Err(_) => Err(gone()),
        }
    }

    /// Waits for the answer; `None` if no detection is running.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub(crate) fn wait(&mut self) -> Result<Option<Answer>> {
        while self.busy {
            match self.answers.recv_timeout(GLANCE) {
                Ok(answer) => return self.take(answer).map(Some),
                Err(_) if self.service.is_running() => {}
                Err(_) => return Err(gone()),
            }
        }
        Ok(None)
    }

    fn take(&mut self, answer: Result<Answer>) -> Result<Answer> {
        self.busy = false;
        answer.map(|answer| Answer { took_ms: answer.took_ms + self.prepared_ms, ..answer })
    }
}

/// The faces on all canvases of an image, in its pixels.
fn look(
    detector: &mut dyn Detector,
    canvases: &[Canvas],
    thorough: bool,
) -> Result<Vec<Detection>> {
    let mut found = Vec::new();
    for canvas in canvases {
        found.extend(canvas.scaling.to_image(detector.detect(canvas)?));
    }
    match canvases.last() {
        Some(smallest) if thorough && found.is_empty() => turned_faces(detector, smallest),
        _ if canvases.len() > 1 => Ok(merged(found)),
        _ => Ok(found),
    }
}

/// The faces, in pixels of the image, that show when the canvas is turned by one, two or three
/// quarters.
fn turned_faces(detector: &mut dyn Detector, upright: &Canvas) -> Result<Vec<Detection>> {
    let quarter = upright.turned();
    let half = quarter.turned();
    let turns = [upright, &quarter, &half, &half.turned()];
    let mut found = Vec::new();
    for (turn, canvas) in turns.iter().enumerate().skip(1) {
        for face in detector.detect(canvas)? {
            let before = turns[..turn].iter().rev();
            found.push(before.fold(face, |face, canvas| canvas.turned_back(face)));
        }
    }
    Ok(merged(upright.scaling.to_image(found)))
}

fn gone() -> Error {
    Error::Bug("the detector's thread ended".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::canvas;

    /// Finds one face, as wide as its canvas; panics on canvases of 32 pixels.
    struct Wide;

    impl Detector for Wide {
        fn detect(&mut self, canvas: &Canvas) -> Result<Vec<Detection>> {
            let [width, height] = canvas.scaling.canvas.map(|v| v as f32);
            assert!(width > 32.0, "a panic of the detector");
            Ok(vec![Detection { bounds: [0.0, 0.0, width, height], score: 1.0, angle: 0.0 }])
        }
    }

    fn service() -> Arc<Service> {
        let opened = Opened { detector: Box::new(Wide), prepare: canvas::rgb };
        Arc::new(Service::start(opened).expect("a thread"))
    }

    fn image(side: u32) -> Image<'static> {
        Image::grey(side, side, vec![0; (side * side) as usize]).expect("fits")
    }

    #[test]
    fn every_client_gets_its_own_answer() {
        let service = service();
        let mut clients: Vec<_> = (0..4).map(|_| service.client(None, false)).collect();
        for (i, client) in clients.iter_mut().enumerate() {
            client.ask(&image(64 * (1 + i as u32))).expect("asked");
        }
        for (i, client) in clients.iter_mut().enumerate().rev() {
            let answer = client.wait().expect("no failure").expect("an answer");
            assert_eq!(answer.faces[0].bounds[2], 64.0 * (1 + i) as f32);
            assert!(!client.is_busy() && client.wait().expect("idle").is_none());
        }
    }

    /// Tells the widths of its canvases.
    struct Widths(Sender<i32>);

    impl Detector for Widths {
        fn detect(&mut self, canvas: &Canvas) -> Result<Vec<Detection>> {
            self.0.send(canvas.scaling.canvas[0]).expect("somebody listens");
            Wide.detect(canvas)
        }
    }

    #[test]
    fn a_large_picture_is_looked_at_twice() {
        let (widths, told) = bounded(4);
        let opened = Opened { detector: Box::new(Widths(widths)), prepare: canvas::rgb };
        let service = Arc::new(Service::start(opened).expect("a thread"));
        for (thorough, side, canvases) in
            [(true, 300, vec![320]), (true, 960, vec![960, 480]), (false, 960, vec![960])]
        {
            let mut client = service.client(Some(960), thorough);
            client.ask(&image(side)).expect("asked");
            let answer = client.wait().expect("no failure").expect("an answer");
            assert_eq!(told.try_iter().collect::<Vec<_>>(), canvases);
            // Both canvases show the same face.
            assert_eq!(answer.faces.len(), 1);
            assert!((answer.faces[0].bounds[2] - side as f32).abs() < 32.0);
        }
    }

    /// Finds a face at the top left if it is bright there.
    struct Corner;

    impl Detector for Corner {
        fn detect(&mut self, canvas: &Canvas) -> Result<Vec<Detection>> {
            let face = Detection { bounds: [0.0, 0.0, 8.0, 16.0], score: 1.0, angle: 0.0 };
            Ok((canvas.pixels[0] > 100).then_some(face).into_iter().collect())
        }
    }

    #[test]
    fn a_face_that_stands_on_its_head_is_looked_for() {
        let opened = Opened { detector: Box::new(Corner), prepare: canvas::rgb };
        let service = Arc::new(Service::start(opened).expect("a thread"));
        let bright = |x, y| if x >= 56 && y >= 88 { 200u8 } else { 0 };
        let pixels: Vec<u8> = (0..96).flat_map(|y| (0..64).map(move |x| bright(x, y))).collect();
        let image = Image::grey(64, 96, pixels).expect("fits");
        for (thorough, expected) in [(false, None), (true, Some([55.5, 79.5, 8.0, 16.0]))] {
            let mut client = service.client(None, thorough);
            client.ask(&image).expect("asked");
            let faces = client.wait().expect("no failure").expect("an answer").faces;
            assert_eq!(faces.first().map(|face| face.bounds), expected);
        }
    }

    #[test]
    fn a_detector_that_panics_is_told_and_not_waited_for() {
        let service = service();
        let (mut one, mut other) = (service.client(None, false), service.client(None, false));
        one.ask(&image(32)).expect("asked");
        assert!(matches!(one.wait(), Err(Error::Bug(_))));
        assert!(other.ask(&image(64)).is_err() || other.wait().is_err());
    }
}
