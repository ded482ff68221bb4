//! Turns flags into the sink for MQTT.

use super::RunArgs;
use super::sinks::content;
use crate::sink::mqtt::{Broker, Mqtt, PREFIX};
use crate::{Error, Result};

/// The sink for MQTT, if one is wanted.
pub(super) fn plan(args: &RunArgs) -> Result<Option<Mqtt>> {
    let Some(url) = &args.mqtt else {
        // The password may come from the environment: it says nothing about this run.
        let lonely = [("topic", args.mqtt_topic.is_some()), ("ca", args.mqtt_ca.is_some())];
        return match lonely.into_iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => {
                Err(Error::Usage(format!("--mqtt-{key} is about records to MQTT: add --mqtt URL")))
            }
            None => Ok(None),
        };
    };
    let broker = Broker::parse(url, args.mqtt_password.clone(), args.mqtt_ca.clone())?;
    let prefix = args.mqtt_topic.clone().unwrap_or_else(|| PREFIX.into());
    let is_topic = !prefix.is_empty()
        && !prefix.starts_with('$')
        && prefix.split('/').all(|level| !level.is_empty() && !level.contains(['+', '#', '\0']));
    if !is_topic {
        return Err(Error::Usage(format!(
            "--mqtt-topic {prefix} is no topic: write words with / between them, such as home/faces"
        )));
    }
    Ok(Some(Mqtt { broker, prefix, content: content(args) }))
}
