//! A detector on a thread of its own, so that its cost does not fall on the frames.

use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::{Detection, Detector};
use crate::frame::Image;
use crate::{Error, Result};

/// What a detection found.
#[derive(Debug)]
pub struct Answer {
    /// The faces.
    pub faces: Vec<Detection>,
    /// How long it took, milliseconds.
    pub took_ms: f64,
}

/// Takes one picture at a time.
pub struct Worker {
    // Both are dropped before the thread is joined: that is what ends it.
    channels: Option<(Sender<Image>, Receiver<Result<Answer>>)>,
    thread: Option<JoinHandle<()>>,
    busy: bool,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`Error::Device`] if there can be no more threads.
    pub fn start(mut detector: Box<dyn Detector>) -> Result<Self> {
        let (ask, asked) = bounded::<Image>(1);
        let (answer, answers) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("detect".into())
            .spawn(move || {
                for image in asked {
                    let started = Instant::now();
                    let faces = detector.detect(&image);
                    let took_ms = started.elapsed().as_secs_f64() * 1e3;
                    if answer.send(faces.map(|faces| Answer { faces, took_ms })).is_err() {
                        return;
                    }
                }
            })
            .map_err(|e| Error::Device(format!("cannot start a thread: {e}")))?;
        Ok(Self { channels: Some((ask, answers)), thread: Some(thread), busy: false })
    }

    /// Whether a picture is being looked at.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Hands over a picture, unless one is being looked at.
    pub fn ask(&mut self, image: &Image) {
        if let (false, Some((ask, _))) = (self.busy, &self.channels) {
            self.busy = ask.try_send(image.clone()).is_ok();
        }
    }

    /// The answer, if there is one already.
    ///
    /// # Errors
    /// Those of the detector; [`Error::Bug`] if it is gone.
    pub fn poll(&mut self) -> Result<Option<Answer>> {
        let Some((_, answers)) = &self.channels else { return Ok(None) };
        match answers.try_recv() {
            Ok(answer) => {
                self.busy = false;
                answer.map(Some)
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(gone()),
        }
    }

    /// The answer, waited for; `None` where nothing was asked.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn wait(&mut self) -> Result<Option<Answer>> {
        let Some((_, answers)) = &self.channels else { return Ok(None) };
        if !self.busy {
            return Ok(None);
        }
        self.busy = false;
        answers.recv().map_err(|_| gone())?.map(Some)
    }
}

fn gone() -> Error {
    Error::Bug("the detector's thread ended".into())
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.channels = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the detector was reported when its answer stayed away.
            let _ = thread.join();
        }
    }
}
