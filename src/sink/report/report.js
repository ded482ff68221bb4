// Draws the data that `mod.rs` wrote into #data. Lists of numbers are base64: little-endian f32,
// i16 (times `step`), i8 (times `steps`) or u8.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const by = id => document.getElementById(id);
const decode = (text, type) => new type(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
const element = (name, text, parent) => Object.assign(parent.appendChild(document.createElement(name)), { textContent: text });
const number = (value, digits = 0) => value.toLocaleString("en", { maximumFractionDigits: digits });
const header = data.header, end = data.end, main = data.names.slice(3);

// Shows what is known about the run.
function showRun() {
  document.title = header.stream + " – mmface-live";
  by("title").textContent = header.stream;
  by("about").textContent = `${header.started}, ${header.program} ${header.version}`;
  const warn = text => Object.assign(element("p", text, by("warnings")), { className: "warning" });
  if (!header.network.trained) warn("The networks of this run have no trained weights: their parameters mean nothing.");
  if (!end) warn("The records have no end: the run was cut off, or still goes on.");
  if (!data.mesh) warn("The face is not shown: the face model of these records was not at hand when this page was written.");
  const card = (value, name) => { const box = element("div", "", by("cards")); box.className = "card"; element("b", value, box); element("span", name, box); };
  const lost = end ? end.frames.dropped : data.lost;
  card(number(data.frames), "frames");
  card(number(data.ids), data.ids === 1 ? "face (id)" : "faces (ids)");
  if (end) card(number(end.fps, 1), "frames a second");
  card(number(lost.busy), "lost: busy");
  card(number(lost.damaged), "lost: damaged");
  card(number(lost.lost || 0), "lost: network");
  if (end) {
    card(number(end.reconnects), "reconnects");
    for (const p of ["p50", "p95", "p99"]) card(number(end.latency_ms[p], 1) + " ms", `latency, ${p.slice(1)} of 100 frames`);
  }
  const { network, face_model } = header, stream = data.stream;
  const rows = {
    source: header.source,
    stream: stream && `${stream.width}×${stream.height}, ${stream.codec}, ${stream.fps ? number(stream.fps, 2) + " fps" : "rate unknown"}`,
    networks: `${network.variant}${network.trained ? "" : " (no trained weights)"}, ${network.hash.slice(0, 12)}…`,
    backend: `${network.backend} on ${network.device} in ${network.precision}`,
    "face model": `${face_model.name}: ${face_model.identity} identity, ${face_model.expressions.length} expression coefficients`,
    smoothing: header.smoothing,
    "frames in": end && number(end.frames.in),
    seconds: end && number(end.seconds, 1),
    gaps: data.gap_count ? data.gaps.map(g => `${g.from} to ${g.to}: ${g.reason}`).join("; ") + (data.gap_count > data.gaps.length ? ` … (${data.gap_count} in all)` : "") : "none",
    "ended because": end && end.reason,
  };
  for (const [name, text] of Object.entries(rows)) if (text) { element("dt", name, by("run")); element("dd", text, by("run")); }
}

// One curve per name. A point of several frames is drawn as its least and its greatest value. The
// line breaks where
// the face was out of sight.
function traces(packed, names, stride, style) {
  const time = decode(packed.time, Float32Array), low = decode(packed.low, Float32Array), high = decode(packed.high, Float32Array);
  const steps = Array.from(time.subarray(1), (t, i) => t - time[i]).sort((a, b) => a - b);
  const pause = 5 * (steps[steps.length >> 1] || 1) + 0.2, each = stride > 1 ? 2 : 1;
  const x = [], at = [];
  time.forEach((t, i) => {
    if (i && t - time[i - 1] > pause) { x.push(t); at.push(-1); }
    for (let k = 0; k < each; k++) { x.push(t); at.push(i * each + k); }
  });
  return names.map((name, k) => ({
    name, x, y: at.map(i => i < 0 ? null : (i % each ? high : low)[Math.floor(i / each) * names.length + k]),
    mode: time.length < 2 ? "markers" : "lines", type: "scatter", line: { width: 1.4 }, ...style(name, k),
  }));
}

const colourway = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#7f7f7f"];
const plain = { colorway: colourway, paper_bgcolor: "#fff", plot_bgcolor: "#fff", font: { size: 13 }, hovermode: "x", hoverlabel: { namelength: -1 } };
const config = { displaylogo: false, responsive: true };
const axis = (title, domain, more) => ({ title: { text: title }, domain, zeroline: false, gridcolor: "#e6e8ec", ...more });

function drawTiming() {
  const { points, names, stride } = data.timing;
  const lost = k => k >= 3;
  Plotly.newPlot("timing", traces(points, names, stride, (_, k) => ({ yaxis: lost(k) ? "y2" : "y", legend: lost(k) ? "legend2" : "legend", line: { width: 1.4, shape: lost(k) ? "hv" : "linear" } })), {
    ...plain, margin: { l: 60, r: 150, t: 32, b: 40 },
    xaxis: axis("seconds of the stream", [0, 1], { anchor: "y2" }),
    yaxis: axis("milliseconds", [0.4, 1], { rangemode: "tozero" }),
    yaxis2: axis("frames lost so far", [0, 0.3], { rangemode: "tozero" }),
    legend: { y: 1 }, legend2: { y: 0.3 },
  }, config);
}

// The chosen face: its curves, and its mesh at one time.
let track, times, angles, expression, neutral;
const mesh = data.mesh && {
  triangles: decode(data.mesh.triangles, Uint32Array), modes: decode(data.mesh.modes, Int8Array), steps: data.mesh.steps,
  region: decode(data.mesh.region, Uint8Array), weights: header.face_model.expressions.includes("jawOpen"),
};
const colours = { eye: "#f4f1ec", iris: "#6b8299", pupil: "#16181c", mouth: "#9c4f4c", eye_socket: "#b98d78" };

function choose(id) {
  if (playing) play();
  track = data.tracks.find(t => t.id === id);
  times = decode(track.points.time, Float32Array);
  angles = decode(track.angles, Float32Array);
  expression = decode(track.expression.points, Int16Array);
  neutral = track.neutral && decode(track.neutral.points, Int16Array);
  by("who").value = id;
  by("when").max = times.length - 1;
  for (const row of by("ids").rows) row.classList.toggle("chosen", row.dataset.id === String(id));
  Plotly.react("curves", traces(track.points, data.names, data.stride, (_, k) => ({ yaxis: k < 3 ? "y" : "y2", legend: k < 3 ? "legend" : "legend2", line: { width: 1.4, color: colourway[(k < 3 ? k : k - 3) % 10] } })), {
    ...plain, margin: { l: 60, r: 170, t: 32, b: 40 }, uirevision: id,
    xaxis: axis("seconds of the stream", [0, 1], { anchor: "y2" }),
    yaxis: axis("degrees", [0.56, 1]), yaxis2: axis("expression", [0, 0.5], mesh && mesh.weights ? { range: [-0.03, 1.03] } : {}),
    legend: { y: 1 }, legend2: { y: 0.5 },
  }, config);
  return show(0);
}

// Vertices [V × 3] as three lists x, y, z: neutral + Σ weight · mode, rotated by R = Rx(pitch)
// Ry(yaw) Rz(roll).
function vertices(at) {
  const size = neutral.length, weights = mesh.steps.length, shape = Float32Array.from(neutral, v => v * track.neutral.step);
  for (let k = 0; k < weights; k++) {
    const weight = expression[at * weights + k] * track.expression.step * mesh.steps[k];
    if (weight) for (let i = 0, j = k * size; i < size; i++, j++) shape[i] += weight * mesh.modes[j];
  }
  const turn = by("posed").checked ? [0, 1, 2].map(k => angles[at * 3 + k] * Math.PI / 180) : [0, 0, 0];
  const [cx, cy, cz] = turn.map(Math.cos), [sx, sy, sz] = turn.map(Math.sin);
  const rows = [[cy * cz, cy * sz, -sy],
    [sx * sy * cz - cx * sz, sx * sy * sz + cx * cz, sx * cy],
    [cx * sy * cz + sx * sz, cx * sy * sz - sx * cz, cx * cy]];
  return rows.map(([a, b, c]) => {
    const out = new Float32Array(size / 3);
    for (let i = 0; i < out.length; i++) out[i] = a * shape[3 * i] + b * shape[3 * i + 1] + c * shape[3 * i + 2];
    return out;
  });
}

async function show(at) {
  by("when").value = at;
  by("now").textContent = times[at].toFixed(2) + " s";
  const cursor = { type: "line", xref: "x", yref: "paper", x0: times[at], x1: times[at], y0: 0, y1: 1, line: { color: "#c33", width: 1 } };
  const drawn = [Plotly.relayout("curves", { shapes: [cursor] })];
  if (mesh && neutral) {
    const [x, y, z] = vertices(at);
    if (by("mesh").data) drawn.push(Plotly.restyle("mesh", { x: [x], y: [y], z: [z] }, [0]));
    else drawn.push(drawMesh(x, y, z));
  }
  await Promise.all(drawn);
}

function drawMesh(x, y, z) {
  const corner = k => Array.from({ length: mesh.triangles.length / 3 }, (_, i) => mesh.triangles[3 * i + k]);
  let reach = 0;
  for (let i = 0; i < x.length; i++) reach = Math.max(reach, Math.hypot(x[i], y[i], z[i]));
  const space = { visible: false, range: [-reach, reach] };
  return Plotly.newPlot("mesh", [{
    type: "mesh3d", x, y, z, i: corner(0), j: corner(1), k: corner(2), hoverinfo: "skip",
    facecolor: Array.from(mesh.region, r => colours[data.mesh.regions[r]] || "#d9b8a3"),
    lighting: { ambient: 0.45, diffuse: 0.75, specular: 0.12, roughness: 0.7, fresnel: 0.05, vertexnormalsepsilon: 0, facenormalsepsilon: 0 },
    lightposition: { x: -3000, y: -5000, z: -8000 }, // the library's light shines towards this point
  }], {
    margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "#fff", uirevision: 1,
    scene: {
      xaxis: space, yaxis: space, zaxis: space, aspectmode: "manual", aspectratio: { x: 1.7, y: 1.7, z: 1.7 }, dragmode: "orbit",
      camera: { up: { x: 0, y: 1, z: 0 }, eye: { x: 0, y: 0, z: 1.6 }, projection: { type: "orthographic" } },
    },
  }, { ...config, modeBarButtonsToRemove: ["tableRotation", "resetCameraLastSave3d"] });
}

// Plays at the stream's own speed, with as many frames as the browser can draw.
let playing = false;
async function play() {
  playing = !playing;
  by("play").textContent = playing ? "⏸" : "▶";
  let at = Number(by("when").value);
  if (at >= times.length - 1) at = 0;
  const begun = performance.now() / 1000 - times[at];
  while (playing) {
    await new Promise(requestAnimationFrame);
    const now = performance.now() / 1000 - begun;
    while (at < times.length - 1 && times[at + 1] <= now) at++;
    if (!playing) return;
    await show(at);
    if (playing && at >= times.length - 1) play();
  }
}

showRun();
for (const [id, first, last, frames] of data.listed) {
  const row = by("ids").insertRow();
  row.dataset.id = id;
  for (const text of [id, first.toFixed(2), last.toFixed(2), number(frames)]) row.insertCell().textContent = text;
  if (data.tracks.some(t => t.id === id)) { row.className = "known"; row.onclick = () => choose(id); }
}
if (data.ids > data.tracks.length) by("unlisted").textContent = `The ${number(data.listed.length)} ids with the most frames; ${data.tracks.length} of them have curves.`;
if (data.stride > 1) by("thinned").textContent = `Thinned: a point stands for ${data.stride} frames and is drawn as their least and greatest value; the face is that of the first of them. The records have every frame.`;
for (const t of data.tracks) Object.assign(element("option", `id ${t.id}`, by("who")), { value: t.id });
// The tests wait for this state: everything has been drawn.
const shown = [data.timing.points.time && drawTiming()];
if (data.tracks.length) {
  by("who").onchange = () => choose(Number(by("who").value));
  let asked = null;
  by("when").oninput = () => { // only the last of what is asked for while one moment is being drawn
    const busy = asked !== null;
    asked = Number(by("when").value);
    if (!busy) (async () => { for (let at; at !== asked;) await show(at = asked); asked = null; })();
  };
  by("posed").onchange = () => show(Number(by("when").value));
  by("play").onclick = play;
  shown.push(choose(data.tracks[0].id));
  by("curves").on("plotly_click", ({ points: [point] }) => show(Math.max(0, times.findLastIndex(t => t <= point.x + 1e-4))));
}
Promise.all(shown).then(() => { document.body.dataset.state = "shown"; }, e => { document.body.dataset.state = "failed: " + e; });
