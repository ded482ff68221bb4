//! A camera for tests: a real RTSP server on loopback.

use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_rtsp_server as server;
use gstreamer_rtsp_server::gst_rtsp::RTSPLowerTrans;
use gstreamer_rtsp_server::prelude::*;

/// A live picture of 320×240 at 15 frames a second.
pub const LIVE: &str = "videotestsrc is-live=true pattern=ball \
    ! video/x-raw,format=I420,width=320,height=240,framerate=15/1 ! valve name=valve \
    ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 ! rtph264pay name=pay0 pt=96";

/// An RTSP server with one stream, `/live`. Dropping it disconnects everybody and frees the port.
pub struct RtspServer {
    main_loop: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
    port: u16,
    valve: Arc<Mutex<Option<gst::Element>>>,
}

impl RtspServer {
    /// Serves a `gst-launch` description with a payloader called `pay0` at `port`, 0 for any that is
    /// free. With a `login`, user and password are required.
    pub fn start(description: &str, port: u16, login: Option<(&str, &str)>) -> Self {
        let both = RTSPLowerTrans::TCP | RTSPLowerTrans::UDP;
        Self::serve(description, port, login, both, |_| {})
    }

    /// A server that refuses to send over TCP.
    pub fn start_udp_only(description: &str) -> Self {
        Self::serve(description, 0, None, RTSPLowerTrans::UDP, |_| {})
    }

    /// A server that refuses to send over UDP.
    pub fn start_tcp_only(description: &str) -> Self {
        Self::serve(description, 0, None, RTSPLowerTrans::TCP, |_| {})
    }

    /// A server whose elements are changed by `change` before they run.
    pub fn start_changed(
        description: &str,
        change: impl Fn(&gst::Bin) + Send + Sync + 'static,
    ) -> Self {
        Self::serve(description, 0, None, RTSPLowerTrans::TCP | RTSPLowerTrans::UDP, change)
    }

    fn serve(
        description: &str,
        port: u16,
        login: Option<(&str, &str)>,
        transports: RTSPLowerTrans,
        change: impl Fn(&gst::Bin) + Send + Sync + 'static,
    ) -> Self {
        gst::init().unwrap();
        let valve = Arc::new(Mutex::new(None));
        let server = server::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service(&port.to_string());
        // Clients live in the server's context and end with it. In a thread of their own, the server's
        // library may go on reading a connection that is closed for as long as the process lives.
        server.thread_pool().unwrap().set_max_threads(0);
        let factory = server::RTSPMediaFactory::new();
        factory.set_launch(&format!("( {description} )"));
        factory.set_shared(true);
        factory.set_protocols(transports);
        let kept = valve.clone();
        factory.connect_media_configure(move |_, media| {
            let bin = media.element().downcast::<gst::Bin>().unwrap();
            *kept.lock().unwrap() = bin.by_name("valve");
            change(&bin);
        });
        if let Some((user, password)) = login {
            let token = server::RTSPToken::builder()
                .field_with_static(server::RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
                .build();
            let auth = server::RTSPAuth::new();
            auth.add_basic(&server::RTSPAuth::make_basic(user, password), &token);
            server.set_auth(Some(&auth));
            let viewer = gst::Structure::builder("viewer")
                .field_with_static(server::RTSP_PERM_MEDIA_FACTORY_ACCESS, true)
                .field_with_static(server::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, true)
                .build();
            factory.add_role_from_structure(&viewer);
        }
        server.mount_points().unwrap().add_factory("/live", factory);

        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let (ready, is_ready) = mpsc::sync_channel(1);
        let running = main_loop.clone();
        let thread = std::thread::spawn(move || {
            // The source's id belongs to this context and must not be removed: quitting the loop and
            // dropping the context is what ends it.
            let _id = server.attach(Some(&context)).unwrap();
            ready.send(server.bound_port()).unwrap();
            running.run();
            server.client_filter(Some(&mut |_, _| server::RTSPFilterResult::Remove));
        });
        let port = u16::try_from(is_ready.recv().unwrap()).unwrap();
        Self { main_loop, thread: Some(thread), port, valve }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The stream's URL; `login` is empty, or `user:password@`.
    pub fn url(&self, login: &str) -> String {
        format!("rtsp://{login}127.0.0.1:{}/live", self.port)
    }

    /// Holds the pictures back while the connection stays, or lets them go again.
    pub fn mute(&self, mute: bool) {
        let valve = self.valve.lock().unwrap();
        valve.as_ref().expect("nobody is connected").set_property("drop", mute);
    }
}

impl Drop for RtspServer {
    fn drop(&mut self) {
        // From inside the loop: a call from outside is lost if the loop has not begun to run.
        let quitting = self.main_loop.clone();
        let quit = glib::idle_source_new(None, glib::Priority::DEFAULT, move || {
            quitting.quit();
            glib::ControlFlow::Break
        });
        quit.attach(Some(&self.main_loop.context()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
