//! VTube Studio's messages: JSON with a type, the request's number and data. See the README of
//! DenchiSoft/VTubeStudio.

use serde::Deserialize;
use serde_json::{Value, json};

/// Who we are. VTube Studio shows both to its user, and a token is valid for this pair only.
const PLUGIN: &str = "mmface-live";
const DEVELOPER: &str = "mmface-live contributors";

/// Numbers of errors.
pub(super) mod error {
    /// The user has switched the API off.
    pub(crate) const SWITCHED_OFF: i64 = 1;
    /// The session is not logged in.
    pub(crate) const NOT_LOGGED_IN: i64 = 8;
    /// The user does not allow the program, or no longer.
    pub(crate) const DENIED: i64 = 50;
    /// VTube Studio is asking its user already.
    pub(crate) const ASKING: i64 = 51;
    /// There is no parameter of this name.
    pub(crate) const NO_PARAMETER: i64 = 453;
    /// Another program moves a parameter.
    pub(crate) const CONTROLLED: i64 = 454;
}

/// What we ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// A token, for which VTube Studio asks its user.
    Token,
    /// Logs in with a token.
    LogIn(&'a str),
    /// The names of all input parameters.
    List,
    /// A new input parameter from 0 to 1.
    Create(&'a str),
}

impl Request<'_> {
    /// The message with this number.
    pub(super) fn text(&self, id: u64) -> String {
        let who = |token: Option<&str>| {
            let mut data = json!({ "pluginName": PLUGIN, "pluginDeveloper": DEVELOPER });
            if let Some(token) = token {
                data["authenticationToken"] = token.into();
            }
            data
        };
        let (kind, data) = match self {
            Self::Token => ("AuthenticationTokenRequest", who(None)),
            Self::LogIn(token) => ("AuthenticationRequest", who(Some(token))),
            Self::List => ("InputParameterListRequest", json!({})),
            Self::Create(name) => (
                "ParameterCreationRequest",
                json!({
                    "parameterName": name, "explanation": "ARKit coefficient from mmface-live",
                    "min": 0, "max": 1, "defaultValue": 0,
                }),
            ),
        };
        message(kind, id, data)
    }
}

/// A message that sets the values of parameters.
pub(super) fn inject<'a>(
    id: u64,
    face_found: bool,
    values: impl Iterator<Item = (&'a str, f32)>,
) -> String {
    let values: Vec<Value> =
        values.map(|(name, value)| json!({ "id": name, "value": value })).collect();
    let data = json!({ "faceFound": face_found, "mode": "set", "parameterValues": values });
    message("InjectParameterDataRequest", id, data)
}

fn message(kind: &str, id: u64, data: Value) -> String {
    let name = "VTubeStudioPublicAPI";
    json!({
        "apiName": name, "apiVersion": "1.0", "requestID": id.to_string(), "messageType": kind, "data": data,
    })
    .to_string()
}

/// An answer, or an event for which nobody has asked.
pub(super) struct Answer {
    /// Number of the request.
    pub(super) id: Option<u64>,
    /// What it says.
    pub(super) content: Content,
}

/// What an answer says.
pub(super) enum Content {
    /// A token.
    Token(String),
    /// Whether the token was good.
    LoggedIn(bool),
    /// The names of all input parameters.
    Parameters(Vec<String>),
    /// It is done.
    Done,
    /// It is not done: number of the error, and why.
    Failed(i64, String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    #[serde(default, rename = "requestID")]
    request_id: String,
    message_type: String,
    #[serde(default)]
    data: Value,
}

impl Answer {
    /// Reads an answer; `None` for what is none.
    pub(super) fn read(text: &str) -> Option<Self> {
        let Envelope { request_id, message_type, data } = serde_json::from_str(text).ok()?;
        let names = |list: &str| -> Vec<String> {
            let parameters = data[list].as_array().into_iter().flatten();
            parameters.filter_map(|p| p["name"].as_str().map(Into::into)).collect()
        };
        let content = match message_type.as_str() {
            "APIError" => {
                let why = data["message"].as_str().unwrap_or("no reason").into();
                Content::Failed(data["errorID"].as_i64().unwrap_or(-1), why)
            }
            "AuthenticationTokenResponse" => {
                Content::Token(data["authenticationToken"].as_str()?.into())
            }
            "AuthenticationResponse" => {
                Content::LoggedIn(data["authenticated"].as_bool().unwrap_or(false))
            }
            "InputParameterListResponse" => Content::Parameters(
                [names("defaultParameters"), names("customParameters")].concat(),
            ),
            _ => Content::Done,
        };
        Some(Self { id: request_id.parse().ok(), content })
    }
}
