//! The page `/metrics`: the counters of all streams for Prometheus.
//!
//! Nothing is counted here. `docs/operations.md` has a table of all names.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::process;
use crate::board::{Board, Fleet, View};
use crate::histogram::LIMITS;
use crate::sink::feed::Feed;
use crate::status::State;

/// Media type of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// Makes the page.
pub(super) struct Metrics(Registry);

impl Metrics {
    pub(super) fn new(board: Arc<Board>, feed: Feed) -> Self {
        process::begin();
        let mut registry = Registry::default();
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("mmface_build", "The program", version);
        registry.register_collector(Box::new(Streams(board)));
        registry.register_collector(Box::new(Readers(feed)));
        registry.register_collector(Box::new(Process));
        Self(registry)
    }

    /// The page and its media type: OpenMetrics for those who accept it, as Prometheus does, else
    /// the older text format.
    pub(super) fn page(&self, accept: &str) -> Result<(String, &'static str), fmt::Error> {
        let mut page = String::new();
        if accept.contains(OPEN_METRICS) {
            text::encode(&mut page, &self.0)?;
            return Ok((page, "application/openmetrics-text; version=1.0.0; charset=utf-8"));
        }
        prometheus_text::encode(&mut page, &self.0)?;
        Ok((page, prometheus_text::CONTENT_TYPE))
    }
}

/// Counts and state of each stream.
#[derive(Debug)]
struct Streams(Arc<Board>);

impl Collector for Streams {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let views = self.0.views();
        counts(&views, &mut encoder)?;
        losses(&views, &mut encoder)?;
        latencies(&views, &mut encoder)?;
        states(&views, &mut encoder)?;
        fleet(self.0.fleet(), &mut encoder)
    }
}

/// A family of metrics whose values carry labels.
struct Family<'a>(MetricEncoder<'a>);

impl<'a> Family<'a> {
    fn counter(
        encoder: &'a mut DescriptorEncoder<'_>,
        name: &'a str,
        help: &str,
    ) -> Result<Self, fmt::Error> {
        encoder.encode_descriptor(name, help, None, MetricType::Counter).map(Self)
    }

    fn gauge(
        encoder: &'a mut DescriptorEncoder<'_>,
        name: &'a str,
        help: &str,
    ) -> Result<Self, fmt::Error> {
        encoder.encode_descriptor(name, help, None, MetricType::Gauge).map(Self)
    }

    fn add<const N: usize>(
        &mut self,
        labels: [(&str, &str); N],
        value: &impl EncodeMetric,
    ) -> fmt::Result {
        value.encode(self.0.encode_family(&labels)?)
    }
}

fn counts(views: &[View], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    type Count = fn(&View) -> u64;
    let families: [(_, _, Count); 4] = [
        ("mmface_frames_decoded", "Decoded frames", |view| view.totals.decoded),
        ("mmface_frames_processed", "Frames that became records", |view| view.totals.processed),
        ("mmface_reconnects", "Connections after the first", |view| view.totals.reconnects),
        ("mmface_face_ids", "Different faces", |view| view.totals.faces),
    ];
    for (name, help, count) in families {
        let mut family = Family::counter(encoder, name, help)?;
        for view in views {
            family.add([("stream", &view.name)], &ConstCounter::new(count(view)))?;
        }
    }
    Ok(())
}

fn losses(views: &[View], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = Family::counter(encoder, "mmface_frames_dropped", "Lost frames by cause")?;
    for view in views {
        for (cause, count) in &view.totals.dropped {
            family.add([("stream", &view.name), ("cause", cause)], &ConstCounter::new(*count))?;
        }
    }
    let help = "Frames that an output left out because it was slow";
    let mut family = Family::counter(encoder, "mmface_sink_frames_dropped", help)?;
    for view in views {
        for (sink, count) in &view.totals.left_out {
            family.add([("stream", &view.name), ("sink", sink)], &ConstCounter::new(*count))?;
        }
    }
    let help = "Records that a broker has acknowledged";
    let mut family = Family::counter(encoder, "mmface_records_acknowledged", help)?;
    for view in views {
        for (sink, count) in &view.totals.acknowledged {
            family.add([("stream", &view.name), ("sink", sink)], &ConstCounter::new(*count))?;
        }
    }
    Ok(())
}

fn latencies(views: &[View], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let (name, help) = ("mmface_capture_to_record", "Time from a decoded frame to its record");
    let mut family =
        encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for view in views {
        let latency = &view.totals.latency;
        // The library adds the counts up.
        let limits = LIMITS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = limits.zip(latency.counts).collect();
        let count = latency.counts.iter().sum();
        let labels = [("stream", &*view.name)];
        let mut histogram = family.encode_family(&labels)?;
        histogram.encode_histogram::<[(&str, &str); 0]>(latency.sum, count, &buckets, None)?;
    }
    Ok(())
}

/// Streams that are no longer wanted have counts, but no state.
fn states(views: &[View], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    type Value = fn(&View) -> Option<f64>;
    let families: [(_, _, Value); 5] = [
        ("mmface_stream_up", "1 while frames come, else 0", |view| Some(view.is_up().into())),
        ("mmface_stream_ended", "1 once the stream came to its proper end, else 0", |view| {
            Some((view.condition.state == State::Ended).into())
        }),
        ("mmface_faces", "Faces in the last frame", |view| Some(view.faces as f64)),
        (
            "mmface_source_frames_per_second",
            "Frame rate that the source tells; absent if it does not",
            |view| Some(view.condition.fps).filter(|fps| *fps > 0.0),
        ),
        (
            "mmface_last_frame_timestamp_seconds",
            "When the last frame was decoded, seconds since 1970; absent before the first",
            |view| {
                let decoded = SystemTime::now() - view.condition.last_frame?.elapsed();
                Some(decoded.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
            },
        ),
    ];
    for (name, help, value) in families {
        let mut family = Family::gauge(encoder, name, help)?;
        for view in views.iter().filter(|view| view.listed) {
            if let Some(value) = value(view) {
                family.add([("stream", &view.name)], &ConstGauge::new(value))?;
            }
        }
    }
    let help = "Records that wait for a broker, in memory or on disk";
    let mut family = Family::gauge(encoder, "mmface_records_waiting", help)?;
    for view in views {
        for (sink, count) in &view.waiting {
            family.add([("stream", &view.name), ("sink", sink)], &ConstGauge::new(*count))?;
        }
    }
    Ok(())
}

/// Absent where the process is no worker of a fleet. All workers tell the same of the fleet.
fn fleet(fleet: Option<Fleet>, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    type Value = fn(&Fleet) -> usize;
    let families: [(_, _, Value); 5] = [
        ("mmface_fleet_workers", "Workers of the fleet that were heard of", |fleet| fleet.workers),
        ("mmface_fleet_streams", "Streams that the fleet should run", |fleet| fleet.wanted),
        (
            "mmface_fleet_streams_unowned",
            "Streams of the fleet that nobody runs, or that wait after a failure",
            |fleet| fleet.unowned,
        ),
        ("mmface_worker_streams", "Streams that this worker has", |fleet| fleet.own),
        ("mmface_worker_capacity", "Streams that this worker takes at most", |fleet| {
            fleet.capacity
        }),
    ];
    for (name, help, value) in families {
        let family = Family::gauge(encoder, name, help)?;
        if let Some(fleet) = &fleet {
            ConstGauge::new(value(fleet) as u64).encode(family.0)?;
        }
    }
    Ok(())
}

/// The readers of `/records`.
struct Readers(Feed);

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readers")
    }
}

impl Collector for Readers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (readers, lost) = self.0.readers();
        let help = "Readers of /records now";
        let family = Family::gauge(&mut encoder, "mmface_record_readers", help)?;
        ConstGauge::new(readers as u64).encode(family.0)?;
        let help = "Records that readers of /records lost because they were slow";
        let family = Family::counter(&mut encoder, "mmface_record_readers_dropped", help)?;
        ConstCounter::new(lost).encode(family.0)
    }
}

/// The process, by the names that all Prometheus clients use.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(usage) = process::usage() else { return Ok(()) };
        let family = Family::counter(&mut encoder, "process_cpu_seconds", "Processor time used")?;
        ConstCounter::new(usage.cpu_seconds).encode(family.0)?;
        let gauges = [
            ("process_resident_memory_bytes", "Memory in use", Some(usage.resident_bytes as f64)),
            ("process_virtual_memory_bytes", "Address space", Some(usage.virtual_bytes as f64)),
            ("process_threads", "Threads", Some(usage.threads as f64)),
            ("process_open_fds", "Open file descriptors", Some(usage.open_files as f64)),
            ("process_max_fds", "Most open file descriptors", usage.most_files.map(|n| n as f64)),
            ("process_start_time_seconds", "Start, seconds since 1970", Some(usage.started)),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let family = Family::gauge(&mut encoder, name, help)?;
            ConstGauge::new(value).encode(family.0)?;
        }
        Ok(())
    }
}
