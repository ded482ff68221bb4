// The live page: reads /records and draws the newest frame of one face. The face model comes from
// /head.json.
"use strict";
const by = id => document.getElementById(id);
const decode = (text, type) => new type(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
const state = (name, text) => { document.body.dataset.state = name; by("state").textContent = text; };

// What is known of each stream: its header, the newest frame, and curves of the last seconds.
const streams = new Map();
let model = null, shown = 0;

// ---- Records -------------------------------------------------------------------------------

function take(record) {
  const known = streams.get(record.stream) || { name: record.stream, curves: [], times: [], ids: "" };
  if (record.type === "header") {
    Object.assign(known, { header: record, frame: null, curves: [], times: [] });
    if (!streams.has(record.stream)) by("stream").append(option(record.stream, record.stream));
    streams.set(record.stream, known);
  } else if (record.type === "frame" && known.header) {
    known.frame = record;
    known.times.push(performance.now());
    while (known.times[0] < performance.now() - 2000) known.times.shift();
    remember(known, chosen(known));
    document.body.dataset.frames = ++shown;
  } else if (record.type === "end") {
    known.ended = record.reason;
  }
}

// The face that is shown: the one that the user has chosen, else the largest, which stays until
// another is clearly larger.
function chosen(stream) {
  const faces = stream.frame ? stream.frame.faces : [];
  const wanted = by("face").value;
  if (wanted) return faces.find(face => String(face.id) === wanted);
  const size = face => face.box[2] * face.box[3];
  const best = faces.reduce((a, b) => (a && size(a) >= size(b) ? a : b), null);
  const same = faces.find(face => face.id === stream.current);
  const face = same && best && size(best) < 1.7 * size(same) ? same : best;
  stream.current = face ? face.id : stream.current;
  return face;
}

const CURVES = [["yaw", "#1f77b4"], ["pitch", "#ff7f0e"], ["roll", "#2ca02c"], ["eyeBlinkLeft", "#9467bd"], ["eyeBlinkRight", "#e377c2"], ["jawOpen", "#d62728"], ["mouthSmileLeft", "#8c564b"]];
const SECONDS = 10;

function remember(stream, face) {
  const names = stream.header.face_model.expressions;
  const of = name => ({ pitch: 0, yaw: 1, roll: 2 })[name] !== undefined
    ? face.r[{ pitch: 0, yaw: 1, roll: 2 }[name]] : face.expression[names.indexOf(name)];
  const now = performance.now() / 1000;
  stream.curves.push([now, face ? CURVES.map(([name]) => of(name)) : null]);
  while (stream.curves.length && stream.curves[0][0] < now - SECONDS) stream.curves.shift();
}

// Reads server-sent events as long as there are any. `fetch` instead of EventSource: it can carry
// the token in a header, and tells why there is no answer.
async function read() {
  const token = sessionStorage.getItem("token");
  const answer = await fetch("/records", { headers: token ? { authorization: `Bearer ${token}` } : {} });
  by("key").style.display = answer.status === 401 ? "block" : "none";
  if (!answer.ok) throw new Error(answer.status === 401 ? "a token is needed" : `the answer is ${answer.status}`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("the program has ended");
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").find(line => line.startsWith("data: "));
      if (data && !event.startsWith("event:")) take(JSON.parse(data.slice(6)));
    }
  }
}

async function listen() {
  for (; ;) {
    try { await read(); } catch (error) { state("waiting", `${error.message}; trying again`); }
    await new Promise(done => { setTimeout(done, 1000); by("key").onsubmit = event => { event.preventDefault(); sessionStorage.setItem("token", by("token").value); done(); }; });
  }
}

// ---- The head ------------------------------------------------------------------------------

// The model: `mean` and `modes` (identity first, then expressions), vertices × 3 each.
async function load() {
  for (; !model; await new Promise(done => setTimeout(done, 500))) {
    const answer = await fetch("/head.json").catch(() => null);
    if (!answer || !answer.ok) continue; // The networks are still being loaded.
    const data = await answer.json();
    model = {
      mean: decode(data.mean.points, Int16Array).map(v => v), step: data.mean.step,
      modes: decode(data.modes, Int8Array), steps: data.steps, identities: data.identities,
      triangles: decode(data.triangles, Uint32Array), region: decode(data.region, Uint8Array), regions: data.regions,
    };
    painter = makePainter();
  }
}

let painter = null;
const COLOURS = { eye: "#f4f1ec", iris: "#6b8299", pupil: "#16181c", mouth: "#9c4f4c", eye_socket: "#b98d78" };
const SKIN = "#d9b8a3";
const rgb = colour => [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16) / 255);

const VERTEX = `#version 300 es
in vec3 place; in vec3 normal; in vec3 colour; out vec3 n, c;
void main() { gl_Position = vec4(place.xy, -0.5 * place.z, 1.0); n = normal; c = colour; }`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec3 n, c; uniform float side; out vec4 pixel;
void main() {
  vec3 m = normalize(n);
  float light = 0.5 + 0.5 * max(0.0, dot(m, normalize(vec3(0.25 * side, 0.45, 0.85))));
  float gloss = 0.1 * pow(max(0.0, dot(m, normalize(vec3(0.12 * side, 0.3, 0.95)))), 24.0);
  pixel = vec4(c * light + gloss, 1.0);
}`;

function makePainter() {
  const canvas = by("head"), gl = canvas.getContext("webgl2", { antialias: true });
  if (!gl) { state("failed", "this browser has no WebGL 2, so the head is not drawn"); return null; }
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  gl.useProgram(program);
  gl.enable(gl.DEPTH_TEST);
  gl.clearColor(1, 1, 1, 1);
  const corners = model.triangles.length;
  const buffer = (name, data) => {
    const made = gl.createBuffer(), at = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, made);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, 3, gl.FLOAT, false, 0, 0);
    return made;
  };
  const colours = new Float32Array(3 * corners);
  for (let i = 0; i < corners; i++) colours.set(rgb(COLOURS[model.regions[model.region[Math.floor(i / 3)]]] || SKIN), 3 * i);
  buffer("colour", colours);
  const places = new Float32Array(3 * corners), normals = new Float32Array(3 * corners);
  const buffers = [["place", places], ["normal", normals]].map(([name, data]) => [buffer(name, data), data]);
  let reach = 0;
  for (let i = 0; i < model.mean.length; i += 3) reach = Math.max(reach, Math.hypot(model.mean[i], model.mean[i + 1], model.mean[i + 2]) * model.step);
  return (shape, turn, mirror) => {
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (canvas.width !== side) canvas.width = canvas.height = side;
    gl.viewport(0, 0, side, side);
    const turned = rotated(shape, turn, 1.15 / reach, mirror), soft = vertexNormals(turned, mirror);
    for (let i = 0; i < corners; i++) {
      const from = 3 * model.triangles[i];
      for (let k = 0; k < 3; k++) { places[3 * i + k] = turned[from + k]; normals[3 * i + k] = soft[from + k]; }
    }
    for (const [made, data] of buffers) { gl.bindBuffer(gl.ARRAY_BUFFER, made); gl.bufferSubData(gl.ARRAY_BUFFER, 0, data); }
    gl.uniform1f(gl.getUniformLocation(program, "side"), mirror ? 1 : -1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.drawArrays(gl.TRIANGLES, 0, corners);
  };
}

// mean + Σ weight · mode, in the model's unit.
function shapeOf(identity, expression) {
  const size = model.mean.length, shape = Float32Array.from(model.mean, v => v * model.step);
  const add = (at, value) => {
    const weight = value * model.steps[at];
    if (weight) for (let i = 0, j = at * size; i < size; i++, j++) shape[i] += weight * model.modes[j];
  };
  identity.forEach((value, k) => add(k, value));
  expression.forEach((value, k) => add(model.identities + k, value));
  return shape;
}

// Turned by the quaternion [w, x, y, z] to x right, y up, z toward the viewer, and scaled.
function rotated(shape, [w, x, y, z], scale, mirror) {
  const out = new Float32Array(shape.length), sx = mirror ? -scale : scale;
  const r = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
    2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
    2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)];
  for (let i = 0; i < shape.length; i += 3) {
    const a = shape[i], b = shape[i + 1], c = shape[i + 2];
    out[i] = sx * (r[0] * a + r[1] * b + r[2] * c);
    out[i + 1] = scale * (r[3] * a + r[4] * b + r[5] * c);
    out[i + 2] = scale * (r[6] * a + r[7] * b + r[8] * c);
  }
  return out;
}

// For each vertex the sum of its triangles' normals. A mirrored mesh has its corners the other way round.
function vertexNormals(v, mirror) {
  const out = new Float32Array(v.length), t = model.triangles, sign = mirror ? -1 : 1;
  for (let i = 0; i < t.length; i += 3) {
    const a = 3 * t[i], b = 3 * t[i + 1], c = 3 * t[i + 2];
    const ux = v[b] - v[a], uy = v[b + 1] - v[a + 1], uz = v[b + 2] - v[a + 2];
    const wx = v[c] - v[a], wy = v[c + 1] - v[a + 1], wz = v[c + 2] - v[a + 2];
    const n = [sign * (uy * wz - uz * wy), sign * (uz * wx - ux * wz), sign * (ux * wy - uy * wx)];
    for (const at of [a, b, c]) for (let k = 0; k < 3; k++) out[at + k] += n[k];
  }
  return out;
}

// ---- Bars and curves -----------------------------------------------------------------------

let bars = [], barsOf = null;

function drawBars(stream, face) {
  if (barsOf !== stream.header) {
    barsOf = stream.header;
    by("bars").replaceChildren();
    bars = stream.header.face_model.expressions.map(name => {
      const bar = by("bars").appendChild(document.createElement("div"));
      bar.className = "bar";
      const label = bar.appendChild(document.createElement("span"));
      label.textContent = label.title = name;
      const fill = bar.appendChild(document.createElement("i")).appendChild(document.createElement("b"));
      return { fill, value: bar.appendChild(document.createElement("output")) };
    });
  }
  bars.forEach(({ fill, value }, k) => {
    const of = face ? face.expression[k] : 0;
    fill.style.transform = `scaleX(${of})`;
    value.textContent = of.toFixed(2);
  });
}

// Angles from −45° to 45° fill the upper half; expressions the lower one.
function drawCurves(stream) {
  const canvas = by("curves"), scale = devicePixelRatio;
  const width = canvas.clientWidth * scale, height = canvas.clientHeight * scale;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d"), now = performance.now() / 1000, edge = 96 * scale;
  const x = time => (width - edge) * (1 + (time - now) / SECONDS);
  const half = height / 2, y = (value, k) => k < 3 ? half * (0.5 - Math.max(-45, Math.min(45, value)) / 96) : height - 4 * scale - value * (half - 16 * scale);
  pen.clearRect(0, 0, width, height);
  pen.strokeStyle = "#e6e8ec";
  pen.lineWidth = scale;
  for (const line of [half / 2, half, height - 4 * scale]) { pen.beginPath(); pen.moveTo(0, line); pen.lineTo(width - edge, line); pen.stroke(); }
  pen.font = `${11 * scale}px system-ui, sans-serif`;
  CURVES.forEach(([name, colour], k) => {
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = 1.5 * scale;
    pen.beginPath();
    let before = false;
    for (const [time, values] of stream.curves) {
      const value = values && values[k];
      if (value === null || value === undefined) { before = false; continue; }
      pen[before ? "lineTo" : "moveTo"](x(time), y(value, k));
      before = true;
    }
    pen.stroke();
    pen.fillText(k < 3 ? `${name}, ±45°` : name, width - edge + 8 * scale, (k < 3 ? 0 : half) + (16 + 15 * (k < 3 ? k : k - 3)) * scale);
  });
}

// ---- All of it -----------------------------------------------------------------------------

let drawn = null;

function draw() {
  requestAnimationFrame(draw);
  const stream = streams.get(by("stream").value);
  if (!stream || !stream.header) return;
  drawCurves(stream);
  if (!stream.frame || stream.frame === drawn) return;
  drawn = stream.frame;
  const ids = stream.frame.faces.map(face => face.id).join();
  if (ids !== stream.ids) {
    stream.ids = ids;
    const wanted = by("face").value;
    by("face").replaceChildren(option("", "the largest"), ...stream.frame.faces.map(face => option(face.id, `id ${face.id}`)));
    if ([...by("face").options].some(o => o.value === wanted)) by("face").value = wanted;
  }
  const face = chosen(stream);
  drawBars(stream, face);
  if (painter && face) {
    const turn = by("posed").checked ? face.q : [1, 0, 0, 0];
    painter(shapeOf(face.identity, face.expression), turn, by("mirror").checked);
    document.body.dataset.face = face.id;
  }
  const fps = stream.times.length / 2, ms = stream.frame.latency_ms.capture_to_record;
  const who = stream.frame.faces.length === 1 ? "1 face" : `${stream.frame.faces.length} faces`;
  if (document.body.dataset.state !== "failed") state("live", `${who}, ${fps.toFixed(0)} frames a second, ${ms.toFixed(1)} ms from camera to record`);
}

addEventListener("error", event => state("failed", event.message));
addEventListener("unhandledrejection", event => state("failed", String(event.reason)));
load();
listen();
draw();
