import json
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstVideo  # noqa: E402, F401 (GstVideo registers its metas)

Gst.init(None)
pipeline = Gst.parse_launch(
    f"filesrc location={sys.argv[1]} ! decodebin ! videoconvert ! mmface ! appsink name=sink sync=false"
)
pipeline.set_state(Gst.State.PLAYING)
sink = pipeline.get_by_name("sink")
while sample := sink.emit("pull-sample"):
    meta = sample.get_buffer().get_custom_meta("MmfaceMeta")
    if meta is None:  # the frame was late and not measured
        continue
    record = json.loads(meta.get_structure().get_string("json"))
    for face in record["faces"]:
        pitch, yaw, roll = face["r"]
        print(f"{record['pts']:.3f} s: face {face['id']} looks {yaw:+.1f} degrees sideways")
pipeline.set_state(Gst.State.NULL)
