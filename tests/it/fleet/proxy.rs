//! A network that can be cut: what is sent meanwhile does not arrive, and nobody is told.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub struct Proxy {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Proxy {
    /// A way to a port of this machine.
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::<AtomicBool>::default();
        let flag = cut.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), flag) = (client, flag.clone()) else { return };
                std::thread::spawn(move || serve(&client, target, &flag));
            }
        });
        Self { port, cut }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }
}

fn serve(client: &TcpStream, target: u16, cut: &Arc<AtomicBool>) {
    wait_while(cut);
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
    let back = (server.try_clone().unwrap(), client.try_clone().unwrap(), cut.clone());
    std::thread::spawn(move || copy(back.0, back.1, &back.2));
    copy(client.try_clone().unwrap(), server, cut);
}

fn wait_while(cut: &AtomicBool) {
    while cut.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut bytes = [0; 16 << 10];
    loop {
        let count = from.read(&mut bytes).unwrap_or(0);
        // What has waited too long finds nobody any more.
        wait_while(cut);
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            let _ = to.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}
