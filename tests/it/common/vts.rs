//! A stand-in for VTube Studio, written from the README of DenchiSoft/VTubeStudio.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// The token that it gives.
pub const TOKEN: &str = "c0ffee-4711-token-of-a-test";

/// Parameters that it has from the beginning. It is an old one, which does not know `MouthX`.
const STANDARD: [&str; 20] = [
    "FacePositionX",
    "FacePositionY",
    "FacePositionZ",
    "FaceAngleX",
    "FaceAngleY",
    "FaceAngleZ",
    "MouthSmile",
    "MouthOpen",
    "Brows",
    "BrowLeftY",
    "BrowRightY",
    "EyeOpenLeft",
    "EyeOpenRight",
    "EyeLeftX",
    "EyeLeftY",
    "EyeRightX",
    "EyeRightY",
    "CheekPuff",
    "VoiceVolumePlusMouthOpen",
    "VoiceFrequencyPlusMouthSmile",
];

/// What a plugin has set: whether a face was found, and values.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    pub found: bool,
    pub values: BTreeMap<String, f64>,
}

/// How it behaves, and what happened.
#[derive(Default)]
pub struct Studio {
    /// Its user does not allow plugins in.
    pub denies: bool,
    /// Its API is switched off.
    pub switched_off: bool,
    /// The token is no good any more.
    pub revoked: bool,
    /// How often its user was asked.
    pub asked: usize,
    /// Parameters that plugins have created.
    pub created: BTreeSet<String>,
    pub injections: Vec<Injection>,
    /// Requests that it refused, by the numbers of the errors.
    pub refused: Vec<i64>,
    /// What is no request at all.
    pub nonsense: Vec<String>,
}

/// A running one. Dropping it ends it, and all its connections.
pub struct VTubeStudio {
    pub port: u16,
    studio: Arc<Mutex<Studio>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl VTubeStudio {
    pub fn start(studio: Studio) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), studio)
    }

    pub fn on(listener: TcpListener, studio: Studio) -> Self {
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let (studio, stop) = (Arc::new(Mutex::new(studio)), Arc::<AtomicBool>::default());
        let (shared, stopped) = (studio.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut plugins: Vec<Plugin> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(false).unwrap();
                    if let Ok(socket) = tungstenite::accept(stream) {
                        socket.get_ref().set_nonblocking(true).unwrap();
                        plugins.push(Plugin { socket, logged_in: false });
                    }
                }
                // As VTube Studio, it looks at messages once a frame.
                std::thread::sleep(Duration::from_millis(5));
                plugins.retain_mut(|plugin| plugin.serve(&shared));
            }
        });
        Self { port, studio, stop, thread: Some(thread) }
    }

    pub fn studio(&self) -> MutexGuard<'_, Studio> {
        self.studio.lock().unwrap()
    }
}

impl Drop for VTubeStudio {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

struct Plugin {
    socket: WebSocket<TcpStream>,
    logged_in: bool,
}

impl Plugin {
    /// Answers what has come; false when the plugin is gone.
    fn serve(&mut self, studio: &Mutex<Studio>) -> bool {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let answer = self.answer(&text, &mut studio.lock().unwrap());
                    if self.socket.send(Message::text(answer)).is_err() {
                        return false;
                    }
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
    }

    fn answer(&mut self, text: &str, studio: &mut Studio) -> String {
        let request: Value = serde_json::from_str(text).unwrap_or_default();
        let id = request["requestID"].as_str().unwrap_or_default();
        let is_request = request["apiName"] == "VTubeStudioPublicAPI"
            && request["apiVersion"] == "1.0"
            && (1..=64).contains(&id.len());
        if !is_request {
            studio.nonsense.push(text.into());
        }
        let kind = request["messageType"].as_str().unwrap_or_default();
        let (kind, data) = match self.data(kind, &request["data"], studio) {
            Ok(data) => (kind.replace("Request", "Response"), data),
            Err((number, why)) => {
                studio.refused.push(number);
                ("APIError".into(), json!({ "errorID": number, "message": why }))
            }
        };
        json!({
            "apiName": "VTubeStudioPublicAPI", "apiVersion": "1.0", "timestamp": 1_625_405_710_728_u64,
            "requestID": id, "messageType": kind, "data": data,
        })
        .to_string()
    }

    fn data(
        &mut self,
        kind: &str,
        data: &Value,
        studio: &mut Studio,
    ) -> Result<Value, (i64, &'static str)> {
        if studio.switched_off {
            return Err((1, "The API is deactivated"));
        }
        let name_fits = |key: &str| (3..=32).contains(&data[key].as_str().unwrap_or("").len());
        match kind {
            "AuthenticationTokenRequest" => {
                if !name_fits("pluginName") || !name_fits("pluginDeveloper") {
                    return Err((52, "a name is too short or too long"));
                }
                studio.asked += 1;
                if studio.denies {
                    return Err((50, "User has denied API access for your plugin."));
                }
                studio.revoked = false;
                return Ok(json!({ "authenticationToken": TOKEN }));
            }
            "AuthenticationRequest" => {
                let token = data["authenticationToken"].as_str();
                self.logged_in = token == Some(TOKEN) && !studio.revoked;
                return Ok(json!({ "authenticated": self.logged_in, "reason": "as it is" }));
            }
            _ if !self.logged_in || studio.revoked => return Err((8, "not authenticated")),
            _ => {}
        }
        match kind {
            "InputParameterListRequest" => {
                let list = |names: &mut dyn Iterator<Item = &str>| -> Vec<Value> {
                    names
                        .map(|name| json!({ "name": name, "value": 0, "min": 0, "max": 1 }))
                        .collect()
                };
                Ok(json!({
                    "modelLoaded": true,
                    "customParameters": list(&mut studio.created.iter().map(String::as_str)),
                    "defaultParameters": list(&mut STANDARD.into_iter()),
                }))
            }
            "ParameterCreationRequest" => {
                let name = data["parameterName"].as_str().unwrap_or_default();
                let plain = name.chars().all(|c| c.is_ascii_alphanumeric());
                if !plain || !(4..=32).contains(&name.len()) || studio.created.len() >= 100 {
                    return Err((350, "no such name"));
                }
                if STANDARD.contains(&name) {
                    return Err((354, "a default parameter has this name"));
                }
                studio.created.insert(name.into());
                Ok(json!({ "parameterName": name }))
            }
            "InjectParameterDataRequest" => {
                let mut values = BTreeMap::new();
                for parameter in data["parameterValues"].as_array().into_iter().flatten() {
                    let name = parameter["id"].as_str().unwrap_or_default();
                    if !STANDARD.contains(&name) && !studio.created.contains(name) {
                        return Err((453, "no such parameter"));
                    }
                    let value = parameter["value"].as_f64().filter(|v| v.abs() < 1e6);
                    values.insert(name.to_owned(), value.ok_or((451, "no such value"))?);
                }
                if values.is_empty() {
                    return Err((450, "no data"));
                }
                let found = data["faceFound"].as_bool().unwrap_or(false);
                studio.injections.push(Injection { found, values });
                Ok(json!({}))
            }
            _ => Err((7, "unknown")),
        }
    }
}
