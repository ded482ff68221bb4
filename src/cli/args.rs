//! The flags of a run.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::avatars;
use super::values::{
    DetectorArg, DeviceArg, FocalArg, FormatArg, IdleArg, MeshFromArg, PrecisionArg, RefineArg,
    SinkFailureArg, SlowReaderArg, SmoothArg, StyleArg, TransportArg, VmcShapesArg, VolumeFromArg,
    VtsParametersArg, WaitArg,
};

/// Reads a camera from a configuration file, where a number needs no quotes.
fn number_or_path<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a camera's number or device path")]
    enum Camera {
        Number(u32),
        Path(String),
    }
    Ok(Some(match Camera::deserialize(from)? {
        Camera::Number(number) => number.to_string(),
        Camera::Path(path) => path,
    }))
}

/// Reads an address from a configuration file, where a port needs no quotes.
fn port_or_address<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a port, or an address \"host:port\"")]
    enum Address {
        Port(u16),
        Text(String),
    }
    Ok(Some(match Address::deserialize(from)? {
        Address::Port(port) => port.to_string(),
        Address::Text(text) => text,
    }))
}

/// The key `stream`: a name, or the tables `[[stream]]` of a configuration file.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamKey {
    /// Name of the stream.
    Name(String),
    /// The settings of several streams.
    Tables(Vec<RunArgs>),
}

impl From<String> for StreamKey {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl<'de> Deserialize<'de> for StreamKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = StreamKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or tables [[stream]]")
            }

            fn visit_str<E>(self, name: &str) -> std::result::Result<StreamKey, E> {
                Ok(StreamKey::Name(name.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut tables: A,
            ) -> std::result::Result<StreamKey, A::Error> {
                let mut all = Vec::new();
                while let Some(table) = tables.next_element()? {
                    all.push(table);
                }
                Ok(StreamKey::Tables(all))
            }
        }
        from.deserialize_any(Either)
    }
}

/// The flags of a run, which are also the keys of a configuration file.
#[derive(Debug, Clone, Default, PartialEq, Args, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct RunArgs {
    /// Camera: its number or device path
    #[arg(long, value_name = "N|PATH", help_heading = "Source")]
    #[serde(deserialize_with = "number_or_path")]
    pub camera: Option<String>,
    /// RTSP stream; user and password may be in the URL, the password is never shown
    #[arg(long, value_name = "URL", help_heading = "Source")]
    pub rtsp: Option<String>,
    /// Stream at a URL: http:// or https:// with Motion JPEG, HLS or a video, or rtsp://
    #[arg(long, value_name = "URL", help_heading = "Source")]
    pub url: Option<String>,
    /// Video or picture, processed as fast as the machine allows; no frame is lost
    #[arg(long, value_name = "PATH", help_heading = "Source")]
    pub file: Option<PathBuf>,
    /// Folder of pictures, sorted by name; each picture stands alone
    #[arg(long, value_name = "DIR", help_heading = "Source")]
    pub images: Option<PathBuf>,
    /// For experts: a pipeline as for gst-launch-1.0, without a sink
    #[arg(long, value_name = "TEXT", help_heading = "Source")]
    pub pipeline: Option<String>,
    /// Configuration file: the same names without the two dashes, as in pipelines/*.toml; flags win
    #[arg(long, value_name = "FILE", help_heading = "Source")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Play a file in real time; as with a camera, older frames are dropped if they come too fast
    #[arg(long, help_heading = "Source")]
    pub realtime: bool,
    /// Name of the stream in the records [default: the source]
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    #[serde(alias = "name")]
    pub stream: Option<StreamKey>,
    /// Transport of RTSP packets [default: auto]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Source")]
    pub rtsp_transport: Option<TransportArg>,
    /// How long RTSP packets may wait for late ones, milliseconds [default: 100]
    #[arg(long, value_name = "MS", help_heading = "Source")]
    pub rtsp_latency: Option<u32>,
    /// How long a stream on the network is tried at the start, in seconds; then a stream that its
    /// server does not know yet is waited for too [default: about 10]
    #[arg(long, value_name = "SECONDS|forever", help_heading = "Source")]
    pub wait: Option<WaitArg>,
    /// Seconds without a frame after which a live source counts as lost [default: 5]
    #[arg(long, value_name = "SECONDS", help_heading = "Source")]
    pub silence: Option<f64>,
    /// End when a live source is lost, instead of reconnecting
    #[arg(long, help_heading = "Source")]
    pub no_reconnect: bool,
    /// Most pixels of a picture or frame; larger ones are refused before they are decoded
    /// [default: 100000000]
    #[arg(long, value_name = "N", help_heading = "Source")]
    pub max_pixels: Option<u64>,
    /// Most frames a second; those between are left out, evenly [default: all]
    #[arg(long, value_name = "N", help_heading = "Source")]
    pub max_fps: Option<f64>,
    /// What is decoded of a live stream while nobody is in it and nothing moves [default: all]
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "Source")]
    pub idle: Option<IdleArg>,

    /// Degrees that the camera sees from left to right: records get the pose in camera space and the
    /// distance in centimetres
    #[arg(long, value_name = "DEGREES", help_heading = "Faces")]
    pub fov: Option<f64>,
    /// The same by the focal length in pixels; "exif" takes it from each picture's file
    #[arg(long, value_name = "PIXELS|exif", help_heading = "Faces")]
    pub focal: Option<FocalArg>,
    /// Most faces to follow [default: 4]
    #[arg(long, value_name = "N", help_heading = "Faces")]
    pub faces: Option<u32>,
    /// Face detector [default: centerface]
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Faces")]
    pub detector: Option<DetectorArg>,
    /// The detector's file, if it is not in the usual place
    #[arg(long, value_name = "FILE", help_heading = "Faces")]
    pub detector_model: Option<PathBuf>,
    /// Longest side of the image that the detector works on: larger finds smaller faces
    /// [default: a third of the frame's longer side within 512 and 960; 960 for pictures]
    #[arg(long, value_name = "PIXELS", help_heading = "Faces")]
    pub detect_size: Option<u32>,
    /// Seconds between detections while more faces could be followed [default: 1]
    #[arg(long, value_name = "SECONDS", help_heading = "Faces")]
    pub detect_every: Option<f64>,
    /// Seconds for which somebody who left keeps the id, to get it back if it is surely the same
    /// person; 0: never [default: 3]
    #[arg(long, value_name = "SECONDS", help_heading = "Faces")]
    pub reidentify: Option<f64>,
    /// Strength of the smoothing over time [default: medium]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Faces")]
    pub smooth: Option<SmoothArg>,
    /// Align the mesh's pose to the surface of the volume, before smoothing [default: off]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Faces")]
    pub refine: Option<RefineArg>,

    /// Write the records to this file, or to standard output for - [default: -]
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Write a table, a row for each face and frame, with OpenFace's column names where they fit
    #[arg(long, value_name = "FILE.csv", help_heading = "Output")]
    pub csv: Option<PathBuf>,
    /// Write the same table, typed and compressed, for pandas, polars, DuckDB or R
    #[arg(long, value_name = "FILE.parquet", help_heading = "Output")]
    pub parquet: Option<PathBuf>,
    /// What happens in a live run if the reader of the records is slow; a file waits for it
    /// [default: drop]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Output")]
    pub on_slow_reader: Option<SlowReaderArg>,
    /// What happens if an output fails, for example because its disk is full [default: end]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Output")]
    pub sink_failure: Option<SinkFailureArg>,
    /// Serve a page with the live head, the records, metrics and health over HTTP at this port of
    /// this machine, or at HOST:PORT
    #[arg(long, value_name = "[HOST:]PORT", help_heading = "Output")]
    #[serde(deserialize_with = "port_or_address")]
    pub listen: Option<String>,
    /// What readers of the records of --listen have to know [default: nothing on this machine; for
    /// others a token that is made once and kept in the user's configuration]
    #[arg(long, value_name = "TOKEN", env = "MMFACE_LISTEN_TOKEN", hide_env_values = true)]
    #[arg(help_heading = "Output")]
    pub listen_token: Option<String>,
    /// Draw the fitted mesh: none, window, or a file (.mp4, .mkv, .webm; .png, .jpg for a picture)
    #[arg(long, value_name = "none|window|FILE", help_heading = "Output")]
    pub overlay: Option<PathBuf>,
    /// How the overlay draws a face [default: mesh]
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Output")]
    pub overlay_style: Option<StyleArg>,
    /// A page about the run: curves, losses, ids, the face in 3D; opens offline in any browser
    #[arg(long, value_name = "FILE.html", help_heading = "Output")]
    pub report: Option<PathBuf>,
    /// Records carry 68 landmarks, on the visible outline and in 3D
    #[arg(long, help_heading = "Output")]
    pub landmarks: bool,
    /// Records carry all vertices of the mesh
    #[arg(long, help_heading = "Output")]
    pub vertices: bool,
    /// Records carry the unsmoothed parameters too
    #[arg(long, help_heading = "Output")]
    pub raw: bool,
    /// Write the mesh of every face and frame into this folder, coloured from the frame; or, of a
    /// video, one animated FILE.glb of the face that was followed longest
    #[arg(long, value_name = "DIR|FILE.glb", help_heading = "Output")]
    pub mesh: Option<PathBuf>,
    /// Format of the files in the folder [default: glb]
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Output")]
    pub mesh_format: Option<FormatArg>,
    /// What meshes are made from [default: model]
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Output")]
    pub mesh_from: Option<MeshFromArg>,
    /// Write the volume of every face and frame into this folder, as NumPy file: u8, 255 = filled
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub volume_out: Option<PathBuf>,
    /// Voxels along each side of a volume: 16 to 256; for the network's volumes 64, 128 or 192, as
    /// the
    /// models have volume heads [default: 64, and only if something asks for volumes]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub volume: Option<u32>,
    /// What volumes are made from: the network's volume head, or the fitted mesh, filled, which is
    /// closer to the true head [default: model; network with --refine icp, --mesh-from volume or
    /// --overlay-style volume]
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Output")]
    pub volume_from: Option<VolumeFromArg>,

    /// Publish the records at a NATS server with JetStream, under mmface.records.STREAM; each is
    /// acknowledged, and none is stored twice (docs/fleets.md)
    #[cfg(feature = "fleet")]
    #[arg(long, value_name = "URL[,URL…]", help_heading = "Brokers")]
    pub nats: Option<String>,
    /// File with the credentials for NATS, as nsc makes it
    #[cfg(feature = "fleet")]
    #[arg(long, value_name = "FILE", env = "MMFACE_NATS_CREDENTIALS", help_heading = "Brokers")]
    pub nats_credentials: Option<PathBuf>,
    /// Token for NATS
    #[cfg(feature = "fleet")]
    #[arg(long, value_name = "TOKEN", env = "MMFACE_NATS_TOKEN", hide_env_values = true)]
    #[arg(help_heading = "Brokers")]
    pub nats_token: Option<String>,
    /// Certificate of the authority that NATS servers are trusted for, as PEM [default: the system's]
    #[cfg(feature = "fleet")]
    #[arg(long, value_name = "FILE", help_heading = "Brokers")]
    pub nats_ca: Option<PathBuf>,
    /// Hours for which JetStream keeps records, if their stream has to be made [default: 168]
    #[cfg(feature = "fleet")]
    #[arg(long, value_name = "HOURS", help_heading = "Brokers")]
    pub nats_keep: Option<f64>,
    /// On how many servers of a cluster they are kept, if their stream has to be made [default: 1]
    #[cfg(feature = "fleet")]
    #[arg(long, value_name = "N", help_heading = "Brokers")]
    pub nats_replicas: Option<u32>,
    /// Folder in which records wait on disk while the broker is away, also over a restart
    #[cfg(feature = "fleet")]
    #[arg(long, value_name = "DIR", help_heading = "Brokers")]
    pub spool: Option<PathBuf>,
    /// Most megabytes in that folder; beyond it the oldest records are lost [default: 1024]
    #[cfg(feature = "fleet")]
    #[arg(long, value_name = "MB", help_heading = "Brokers")]
    pub spool_limit: Option<f64>,

    /// Publish the records at an MQTT broker, under mmface/STREAM; Home Assistant, Node-RED and
    /// Frigate's users have one (docs/mqtt.md)
    #[cfg(feature = "mqtt")]
    #[arg(long, value_name = "URL", help_heading = "Brokers")]
    pub mqtt: Option<String>,
    /// What the topics begin with [default: mmface]
    #[cfg(feature = "mqtt")]
    #[arg(long, value_name = "PREFIX", help_heading = "Brokers")]
    pub mqtt_topic: Option<String>,
    /// Password of the user in the broker's URL
    #[cfg(feature = "mqtt")]
    #[arg(long, value_name = "PASSWORD", env = "MMFACE_MQTT_PASSWORD", hide_env_values = true)]
    #[arg(help_heading = "Brokers")]
    pub mqtt_password: Option<String>,
    /// Certificate of the authority that the broker is trusted for, as PEM [default: the system's]
    #[cfg(feature = "mqtt")]
    #[arg(long, value_name = "FILE", help_heading = "Brokers")]
    pub mqtt_ca: Option<PathBuf>,

    /// Move avatars by the VMC protocol: VSeeFace, Warudo, VNyan, Blender, Godot
    /// [default address: 127.0.0.1:39539]
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "")]
    #[arg(help_heading = "Avatars")]
    #[serde(deserialize_with = "avatars::address")]
    pub vmc: Option<String>,
    /// Move faces in Unreal Engine, as Live Link Face does [default address: 127.0.0.1:11111]
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "")]
    #[arg(help_heading = "Avatars")]
    #[serde(deserialize_with = "avatars::address")]
    pub live_link: Option<String>,
    /// Move avatars as iFacialMocap does [default address: 127.0.0.1:49983]
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "")]
    #[arg(help_heading = "Avatars")]
    #[serde(deserialize_with = "avatars::address")]
    pub ifacialmocap: Option<String>,
    /// Move avatars as OpenSeeFace does [default address: 127.0.0.1:11573]
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "")]
    #[arg(help_heading = "Avatars")]
    #[serde(deserialize_with = "avatars::address")]
    pub openseeface: Option<String>,
    /// Turn the view in games through opentrack [default address: 127.0.0.1:4242]
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "")]
    #[arg(help_heading = "Avatars")]
    #[serde(deserialize_with = "avatars::address")]
    pub opentrack: Option<String>,
    /// Move models in VTube Studio, which asks you once to allow it
    /// [default address: ws://127.0.0.1:8001]
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    #[arg(help_heading = "Avatars")]
    #[serde(deserialize_with = "avatars::address")]
    pub vts: Option<String>,
    /// Which parameters VTube Studio gets [default: standard]
    #[arg(long, value_enum, value_name = "WHICH", help_heading = "Avatars")]
    pub vts_parameters: Option<VtsParametersArg>,
    /// Each face moves an avatar of its own: the first at the port of --vmc, the others at the ports
    /// behind it, as many as --faces
    #[arg(long, help_heading = "Avatars")]
    pub vmc_per_face: bool,
    /// Which shapes --vmc moves [default: arkit]
    #[arg(long, value_enum, value_name = "WHICH", help_heading = "Avatars")]
    pub vmc_shapes: Option<VmcShapesArg>,
    /// How coefficients become the avatar's: gains, dead zones, names (docs/avatars.md)
    #[arg(long, value_name = "FILE.toml", help_heading = "Avatars")]
    pub avatar: Option<PathBuf>,
    /// Which face moves the avatar [default: largest]
    #[arg(long, value_name = "ID|largest|center", help_heading = "Avatars")]
    #[serde(deserialize_with = "avatars::face")]
    pub avatar_face: Option<String>,
    /// Seconds in which the avatar comes to rest when its face is lost [default: 0.5]
    #[arg(long, value_name = "SECONDS", help_heading = "Avatars")]
    pub avatar_rest: Option<f64>,
    /// Continue the head's motion over this latency of camera and avatar, milliseconds [default: 0]
    #[arg(long, value_name = "MS", help_heading = "Avatars")]
    pub predict: Option<f64>,
    /// Look ahead with a relaxed face: so many seconds after a face appears it becomes zero for
    /// avatars, and so does the head's pose; also on SIGUSR1, and by the key N in the window
    #[arg(long, value_name = "SECONDS", help_heading = "Avatars")]
    pub calibrate: Option<f64>,
    /// Where faces at rest come from, which are zero for avatars and in the records' `relative`:
    /// learnt, or a file, which is written if it is not there
    /// [default: auto for avatars of a live source, else off]
    #[arg(long, value_name = "auto|off|FILE.toml", help_heading = "Avatars")]
    pub neutral: Option<PathBuf>,
    /// Avatars move as in a mirror: your left is their right
    #[arg(long, help_heading = "Avatars")]
    pub mirror: bool,

    /// Device that runs the networks [default: auto]
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Networks")]
    pub device: Option<DeviceArg>,
    /// Precision of the networks; auto is the fastest that the device supports [default: auto]
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Networks")]
    pub precision: Option<PrecisionArg>,
    /// Most CPU cores to use, for everything: decoder, networks, outputs [default: all]
    #[arg(long, value_name = "N", help_heading = "Networks")]
    pub threads: Option<u32>,
    /// Which variant of the networks [default: mmface-lite]
    #[arg(long, value_name = "NAME", help_heading = "Networks")]
    pub variant: Option<String>,
    /// Folder with manifest.toml, if it is not in the usual place
    #[arg(long, value_name = "DIR", env = "MMFACE_ENGINES", help_heading = "Networks")]
    pub engines: Option<PathBuf>,
    /// Folder for compiled networks [default: the user's cache folder]
    #[arg(long, value_name = "DIR", env = "MMFACE_ENGINE_CACHE", help_heading = "Networks")]
    pub engine_cache: Option<PathBuf>,
    /// Launch every operation on the GPU anew, instead of replaying a CUDA graph
    #[arg(long, help_heading = "Networks")]
    pub no_cuda_graph: bool,
}

impl RunArgs {
    /// Completes these flags with those of `file`. A source given here replaces the file's source.
    #[must_use]
    pub fn over(self, file: Self) -> Self {
        let file = if self.names_a_source() {
            Self {
                camera: None,
                rtsp: None,
                url: None,
                file: None,
                images: None,
                pipeline: None,
                ..file
            }
        } else {
            file
        };
        Self {
            camera: self.camera.or(file.camera),
            rtsp: self.rtsp.or(file.rtsp),
            url: self.url.or(file.url),
            file: self.file.or(file.file),
            images: self.images.or(file.images),
            pipeline: self.pipeline.or(file.pipeline),
            config: None,
            realtime: self.realtime || file.realtime,
            stream: self.stream.or(file.stream),
            rtsp_transport: self.rtsp_transport.or(file.rtsp_transport),
            rtsp_latency: self.rtsp_latency.or(file.rtsp_latency),
            wait: self.wait.or(file.wait),
            silence: self.silence.or(file.silence),
            no_reconnect: self.no_reconnect || file.no_reconnect,
            max_pixels: self.max_pixels.or(file.max_pixels),
            max_fps: self.max_fps.or(file.max_fps),
            fov: self.fov.or(file.fov.filter(|_| self.focal.is_none())),
            focal: self.focal.or(file.focal.filter(|_| self.fov.is_none())),
            idle: self.idle.or(file.idle),
            faces: self.faces.or(file.faces),
            detector: self.detector.or(file.detector),
            detector_model: self.detector_model.or(file.detector_model),
            detect_size: self.detect_size.or(file.detect_size),
            detect_every: self.detect_every.or(file.detect_every),
            reidentify: self.reidentify.or(file.reidentify),
            smooth: self.smooth.or(file.smooth),
            refine: self.refine.or(file.refine),
            json: self.json.or(file.json),
            on_slow_reader: self.on_slow_reader.or(file.on_slow_reader),
            sink_failure: self.sink_failure.or(file.sink_failure),
            listen: self.listen.or(file.listen),
            listen_token: self.listen_token.or(file.listen_token),
            overlay: self.overlay.or(file.overlay),
            overlay_style: self.overlay_style.or(file.overlay_style),
            csv: self.csv.or(file.csv),
            parquet: self.parquet.or(file.parquet),
            report: self.report.or(file.report),
            landmarks: self.landmarks || file.landmarks,
            vertices: self.vertices || file.vertices,
            raw: self.raw || file.raw,
            mesh: self.mesh.or(file.mesh),
            mesh_format: self.mesh_format.or(file.mesh_format),
            mesh_from: self.mesh_from.or(file.mesh_from),
            volume_out: self.volume_out.or(file.volume_out),
            volume: self.volume.or(file.volume),
            volume_from: self.volume_from.or(file.volume_from),
            #[cfg(feature = "fleet")]
            nats: self.nats.or(file.nats),
            #[cfg(feature = "fleet")]
            nats_credentials: self.nats_credentials.or(file.nats_credentials),
            #[cfg(feature = "fleet")]
            nats_token: self.nats_token.or(file.nats_token),
            #[cfg(feature = "fleet")]
            nats_ca: self.nats_ca.or(file.nats_ca),
            #[cfg(feature = "fleet")]
            nats_keep: self.nats_keep.or(file.nats_keep),
            #[cfg(feature = "fleet")]
            nats_replicas: self.nats_replicas.or(file.nats_replicas),
            #[cfg(feature = "fleet")]
            spool: self.spool.or(file.spool),
            #[cfg(feature = "fleet")]
            spool_limit: self.spool_limit.or(file.spool_limit),
            #[cfg(feature = "mqtt")]
            mqtt: self.mqtt.or(file.mqtt),
            #[cfg(feature = "mqtt")]
            mqtt_topic: self.mqtt_topic.or(file.mqtt_topic),
            #[cfg(feature = "mqtt")]
            mqtt_password: self.mqtt_password.or(file.mqtt_password),
            #[cfg(feature = "mqtt")]
            mqtt_ca: self.mqtt_ca.or(file.mqtt_ca),
            vmc: self.vmc.or(file.vmc),
            live_link: self.live_link.or(file.live_link),
            ifacialmocap: self.ifacialmocap.or(file.ifacialmocap),
            openseeface: self.openseeface.or(file.openseeface),
            opentrack: self.opentrack.or(file.opentrack),
            vts: self.vts.or(file.vts),
            vts_parameters: self.vts_parameters.or(file.vts_parameters),
            vmc_per_face: self.vmc_per_face || file.vmc_per_face,
            vmc_shapes: self.vmc_shapes.or(file.vmc_shapes),
            predict: self.predict.or(file.predict),
            calibrate: self.calibrate.or(file.calibrate),
            neutral: self.neutral.or(file.neutral),
            avatar: self.avatar.or(file.avatar),
            avatar_face: self.avatar_face.or(file.avatar_face),
            avatar_rest: self.avatar_rest.or(file.avatar_rest),
            mirror: self.mirror || file.mirror,
            device: self.device.or(file.device),
            precision: self.precision.or(file.precision),
            threads: self.threads.or(file.threads),
            variant: self.variant.or(file.variant),
            engines: self.engines.or(file.engines),
            engine_cache: self.engine_cache.or(file.engine_cache),
            no_cuda_graph: self.no_cuda_graph || file.no_cuda_graph,
        }
    }

    /// Takes the `[[stream]]` tables out of the arguments of a configuration file.
    pub(super) fn take_tables(&mut self) -> Option<Vec<Self>> {
        match self.stream.take() {
            Some(StreamKey::Tables(tables)) => Some(tables),
            name => {
                self.stream = name;
                None
            }
        }
    }

    pub(super) fn names_a_source(&self) -> bool {
        self.camera.is_some()
            || self.rtsp.is_some()
            || self.url.is_some()
            || self.file.is_some()
            || self.images.is_some()
            || self.pipeline.is_some()
    }
}
