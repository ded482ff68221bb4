//! The live page: what it is made from, who may see it, and what a browser shows.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::{Watched, camera};
use crate::common::clip;
use crate::common::http::{ask, get};

#[test]
fn the_head_is_served_when_the_networks_are_ready() {
    let mut watched = Watched::configured(&camera("door", ""));
    watched.wait_until(|address| get(address, "/head.json").status == 200);
    let head = watched.get("/head.json").json();
    assert_eq!(head["steps"].as_array().unwrap().len(), {
        let identities = head["identities"].as_u64().unwrap() as usize;
        identities + head["expressions"].as_array().unwrap().len()
    });
    assert!(watched.get("/live.js").head.contains("text/javascript"));
    assert_eq!(watched.end().code, Some(0));
}

#[test]
fn others_need_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("configuration");
    let log = folder.path().join("log");
    let arguments = ["--listen", "0.0.0.0:0", "--pipeline", super::LIVE];
    let command = crate::common::program::command(arguments);
    let mut shell = crate::common::program::shell("exec \"$0\" \"$@\" 2>\"$LOG\"", &command);
    shell.env("LOG", &log).env("XDG_CONFIG_HOME", &configuration);
    let mut running = crate::common::program::Running::start(shell);
    running.wait_until(|| super::address(&log).is_some());
    let port = super::address(&log).unwrap().port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let token = std::fs::read_to_string(configuration.join("mmface-live/listen-token")).unwrap();
    let token = token.trim();
    assert_eq!(token.len(), 32);
    let status = |request: &str| ask(address, &format!("{request}\r\n\r\n")).status;
    assert_eq!(status("HEAD /records HTTP/1.0"), 401);
    assert_eq!(status("HEAD /records?token=00 HTTP/1.0"), 401);
    assert_eq!(status(&format!("HEAD /records?token={token} HTTP/1.0")), 200);
    assert_eq!(status(&format!("HEAD /records HTTP/1.0\r\nAuthorization: Bearer {token}")), 200);
    for page in ["/", "/metrics", "/healthz"] {
        assert_eq!(status(&format!("HEAD {page} HTTP/1.0")), 200, "{page}");
    }
    running.signal("TERM");
    let done = running.finish();
    assert_eq!(done.code, Some(0));
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("listen-token") && !log.contains(token), "{log}");
}

/// A headless browser, spoken to by its debugging protocol. Dropping it ends it.
struct Browser {
    child: Child,
    socket: WebSocket<std::net::TcpStream>,
    last: u64,
    /// The page that is spoken to, once it is open.
    session: Option<String>,
}

impl Browser {
    /// Opens a page, if there is a browser here.
    fn open(profile: &Path, url: &str) -> Option<Self> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let mut child = names.into_iter().find_map(|name| {
            Command::new(name)
                .args(["--headless", "--no-sandbox", "--use-angle=swiftshader"])
                .args(["--enable-unsafe-swiftshader", "--remote-debugging-port=0"])
                .args(["--window-size=1400,1050", "--remote-allow-origins=*"])
                .arg(format!("--user-data-dir={}", profile.display()))
                .arg("about:blank")
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .ok()
        })?;
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let found =
            lines.find_map(|line| line.unwrap().split_once("ws://").map(|(_, to)| to.to_owned()));
        let target = format!("ws://{}", found.unwrap());
        std::thread::spawn(move || lines.for_each(drop));
        let host = target[5..].split('/').next().unwrap();
        let stream = std::net::TcpStream::connect(host).unwrap();
        let (socket, _) = tungstenite::client::client(&target, stream).unwrap();
        let mut this = Self { child, socket, last: 0, session: None };
        let opened = this.call("Target.createTarget", &json!({ "url": url }));
        let parameters = json!({ "targetId": opened["targetId"], "flatten": true });
        let attached = this.call("Target.attachToTarget", &parameters);
        this.session = Some(attached["sessionId"].as_str().unwrap().into());
        Some(this)
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let mut request = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            request["sessionId"] = session.as_str().into();
        }
        self.socket.send(Message::text(request.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.last {
                return answer["result"].clone();
            }
        }
    }

    /// The value of an expression in the page.
    fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        self.call("Runtime.evaluate", &parameters)["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    fn wait_until(&mut self, expression: &str) {
        let deadline = Instant::now() + Duration::from_secs(170);
        while self.value(expression) != true {
            let state = self.value("document.body.dataset.state + ': ' + document.body.innerText");
            assert!(Instant::now() < deadline, "not {expression}: {state}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Saves a picture of the page if the environment names a file for it.
    fn picture(&mut self) {
        let Some(path) = std::env::var_os("MMFACE_TEST_SCREENSHOT") else { return };
        let taken = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        use base64::Engine as _;
        let png = base64::engine::general_purpose::STANDARD;
        std::fs::write(path, png.decode(taken["data"].as_str().unwrap()).unwrap()).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A real browser, where there is one: the head is drawn, the bars and curves move, nothing fails.
#[test]
fn a_browser_shows_the_live_head() {
    let profile = tempfile::tempdir().unwrap();
    // A picture that lasts, so that there is time to look.
    let file = clip("single_face.mp4");
    let lasting = format!(
        "filesrc location={} ! qtdemux ! decodebin ! imagefreeze is-live=true ! video/x-raw,framerate=30/1",
        file.display()
    );
    let mut watched = Watched::start(&["--pipeline", &lasting, "--stream", "anna"]);
    watched.wait_until(|address| get(address, "/readyz").status == 200);
    let Some(mut browser) = Browser::open(profile.path(), &format!("http://{}/", watched.address))
    else {
        println!("skipped: there is no Chromium here (apt install chromium)");
        return;
    };
    browser.wait_until("document.body.dataset.state === 'live' && !!document.body.dataset.face && document.body.dataset.frames > 30");
    let drawn = "(() => { const c = document.createElement('canvas'), h = document.getElementById('head'); \
        c.width = c.height = 64; const p = c.getContext('2d'); draw(); p.drawImage(h, 0, 0, 64, 64); \
        const d = p.getImageData(0, 0, 64, 64).data; let n = 0; \
        for (let i = 0; i < d.length; i += 4) if (d[i + 3] && d[i] + d[i + 1] + d[i + 2] < 720) n++; return n; })()";
    // The canvas keeps its picture only until the page is shown: it is drawn anew for this.
    let forced = format!("drawn = null; {drawn}");
    let share = browser.value(&forced).as_u64().unwrap();
    assert!((400..3500).contains(&share), "{share} of 4096 pixels show a head");
    assert_eq!(browser.value("document.querySelectorAll('.bar').length"), 53);
    assert_eq!(browser.value("streams.get('anna').curves.length > 20"), true);
    assert_eq!(browser.value("document.getElementById('stream').value"), "anna");
    let moved = browser
        .value("[...document.querySelectorAll('.bar output')].filter(o => o.value > 0.05).length");
    assert!(moved.as_u64().unwrap() > 3, "{moved} expressions");
    browser.picture();
    assert_eq!(browser.value("document.body.dataset.state"), "live");
    drop(browser);
    assert_eq!(watched.end().code, Some(0));
}
