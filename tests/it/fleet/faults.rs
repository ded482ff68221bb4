//! Twelve cameras on three workers and a cluster of three servers, with every fault in turn. Run by
//! `make fleet-test`.

use std::time::{Duration, Instant};

use super::proxy::Proxy;
use super::{Fleet, check_runs};
use crate::common::nats::{Server, wait};
use crate::common::program::Running;
use crate::common::rtsp::RtspServer;

/// A camera, five times a second.
const CAMERA: &str = "videotestsrc is-live=true pattern=ball \
    ! video/x-raw,format=I420,width=320,height=240,framerate=5/1 \
    ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 ! rtph264pay name=pay0 pt=96";

/// A worker behind a network that can be cut.
struct Node {
    name: &'static str,
    proxy: Proxy,
    running: Option<Running>,
}

impl Node {
    fn start(&mut self, fleet: &Fleet) {
        let mut command = fleet.command(&self.proxy.url(), self.name);
        command.args(["--nats-replicas", "3"]);
        self.running = Some(Running::start(command));
    }

    fn signal(&self, name: &str) {
        self.running.as_ref().unwrap().signal(name);
    }
}

/// Waits until all streams are up on these workers, and tells how long it took.
fn recovers(fleet: &Fleet, what: &str, workers: &[&str]) {
    let begun = Instant::now();
    fleet.wait_for_all_on(workers);
    println!("{what}: all streams are up after {:.1} s", begun.elapsed().as_secs_f64());
}

#[test]
#[ignore = "minutes: run by make fleet-test"]
fn twelve_cameras_on_three_workers_go_on_through_every_fault() {
    let camera = RtspServer::start(CAMERA, 0, None);
    let mut servers = Server::cluster();
    let urls: Vec<_> = servers.iter().map(Server::url).collect();
    let fleet = Fleet::new(urls.join(","));
    let stream = |n: usize| {
        let url = camera.url("");
        format!(
            "[[stream]]\nname = \"camera-{n:02}\"\nrtsp = \"{url}\"\nrtsp-transport = \"tcp\"\n"
        )
    };
    let cameras: String = (0..12).map(stream).collect();
    fleet.apply_with(&cameras, &["--nats-replicas", "3"]);
    let names = ["one", "two", "three"];
    let mut nodes: Vec<_> = names
        .into_iter()
        .zip(&servers)
        .map(|(name, server)| Node { name, proxy: Proxy::to(server.port()), running: None })
        .collect();
    nodes.iter_mut().for_each(|node| node.start(&fleet));
    recovers(&fleet, "start", &names);
    let lease = Duration::from_secs_f64(fleet.status()["lease"].as_f64().unwrap());

    nodes[0].signal("KILL");
    recovers(&fleet, "one is killed", &["two", "three"]);
    nodes[0].start(&fleet);
    recovers(&fleet, "one comes back", &names);

    nodes[1].signal("STOP");
    recovers(&fleet, "two stands still", &["one", "three"]);
    std::thread::sleep(lease);
    nodes[1].signal("CONT");
    recovers(&fleet, "two goes on", &names);

    nodes[2].proxy.cut(true);
    recovers(&fleet, "three is cut off", &["one", "two"]);
    nodes[2].proxy.cut(false);
    recovers(&fleet, "three is there again", &names);

    for server in &mut servers {
        server.kill();
        std::thread::sleep(lease / 4);
        server.again();
    }
    recovers(&fleet, "each server was restarted", &names);
    servers.iter_mut().for_each(Server::kill);
    std::thread::sleep(lease * 2);
    servers.iter_mut().for_each(Server::again);
    recovers(&fleet, "all servers were away for two leases", &names);

    wait(|| {
        let status = fleet.try_status()?;
        let streams = status["streams"].as_array()?;
        streams.iter().all(|stream| stream["waiting"].as_u64() < Some(10)).then_some(())
    });
    for node in &mut nodes {
        node.signal("TERM");
        let done = node.running.take().unwrap().finish();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    let stored = wait(|| {
        let stored = servers[0].stored("mmface.records.>");
        (!stored.is_empty()).then_some(stored)
    });
    let runs = check_runs(&stored);
    println!("{} records of {} runs, each there once and none missing", stored.len(), runs.len());
    assert!(runs.len() >= 24, "{runs:?}");
}
