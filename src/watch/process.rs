//! What Linux knows of this process, for the metrics that every Prometheus client has.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// When the process began, as far as this program can tell: when it first asked.
static STARTED: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);

/// Use of resources at one moment.
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) threads: u64,
    pub(super) open_files: u64,
    /// Most files that may be open; `None` if there is no limit.
    pub(super) most_files: Option<u64>,
    /// Start as seconds since 1970.
    pub(super) started: f64,
}

/// Notes the start of the process.
pub(super) fn begin() {
    LazyLock::force(&STARTED);
}

/// The present use; `None` where `/proc` is not there.
pub(crate) fn usage() -> Option<Usage> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let open_files = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    let [user, system, threads, virtual_bytes, pages] = fields(&stat)?;
    Some(Usage {
        cpu_seconds: (user + system) as f64 / clock_ticks_per_second() as f64,
        resident_bytes: pages * page_size() as u64,
        virtual_bytes,
        threads,
        // The folder that was just read was open too.
        open_files: open_files.saturating_sub(1),
        most_files: getrlimit(Resource::Nofile).current,
        started: STARTED.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
    })
}

/// The fields utime, stime, num_threads, vsize and rss of `/proc/self/stat`, see proc(5).
fn fields(stat: &str) -> Option<[u64; 5]> {
    // The second field is the program's name in brackets, which may hold anything.
    let rest = stat.rsplit_once(") ")?.1;
    let fields: Vec<_> = rest.split(' ').collect();
    let number = |of_proc: usize| fields.get(of_proc - 3)?.parse().ok();
    Some([number(14)?, number(15)?, number(20)?, number(23)?, number(24)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 4096 33 18446744073709551615";
        assert_eq!(fields(stat), Some([250, 50, 9, 4096, 33]));
        assert_eq!(fields("nonsense"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = usage().expect("/proc");
        assert!(usage.threads >= 1 && usage.open_files >= 3 && usage.cpu_seconds >= 0.0);
        assert!(usage.resident_bytes > 1 << 20 && usage.virtual_bytes > usage.resident_bytes);
    }
}
