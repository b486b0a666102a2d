"use strict";
// The live page: everything is built from text nodes, so that nothing a device sends can become markup.

const byId = (id) => document.getElementById(id);
const wanted = () => decodeURIComponent(location.hash.slice(1));
let source = null;
let patient = null;

function make(tag, name, text) {
  const item = document.createElement(tag);
  if (name) item.className = name;
  if (text !== undefined) item.textContent = text;
  return item;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function describeState(row) {
  const parts = [...row.active];
  if (row.silent) parts.unshift("no data");
  if (row.faults.length) parts.push(`lead: ${[...new Set(row.faults)].join(", ")}`);
  if (row.learning) parts.push("learning the usual beat");
  return parts.join(" · ") || "regular";
}

// Keeps each row's element while it is shown, so that a click or the focus survives an update.
function arrange(list, rows) {
  const old = new Map([...list.children].map((item) => [item.dataset.key, item]));
  rows.forEach(([key, row, build, fill], position) => {
    const name = String(key);
    const item = old.get(name) || build(row);
    old.delete(name);
    item.dataset.key = name;
    const version = JSON.stringify(row);
    if (item.dataset.version !== version) { fill(item, row); item.dataset.version = version; }
    if (list.children[position] !== item) list.insertBefore(item, list.children[position] || null);
  });
  old.forEach((item) => item.remove());
}

function buildCard(row) {
  const card = make("button", "card");
  card.type = "button";
  card.addEventListener("click", () => { location.hash = encodeURIComponent(row.device); });
  const item = make("li");
  item.append(card);
  return item;
}

function fillCard(item, row) {
  const card = item.firstChild;
  card.className = `card ${row.silent ? "alarm" : row.alert ? row.alert.level : ""}`;
  const top = make("span", "top");
  top.append(make("span", "line", row.device));
  const rate = make("span", "rate", row.rate === null ? "–" : String(row.rate));
  rate.append(make("small", "", " /min"));
  top.append(rate);
  const parts = [top];
  if (row.alert) parts.push(make("span", `line ${row.alert.level}-text`, `${row.alert.kind}: ${row.alert.text}`));
  parts.push(make("span", "line", describeState(row)));
  const shed = row.losses.shed ? ` · ${row.losses.shed} samples shed: the monitor was behind` : "";
  const lost = (row.losses.lost ? ` · ${row.losses.lost} samples lost` : "") + shed;
  const beats = Object.values(row.counts).reduce((sum, count) => sum + count, 0);
  const open = row.unacknowledged ? ` · ${row.unacknowledged} to acknowledge` : "";
  parts.push(make("span", "faint", `${beats} beats${lost}${open}`));
  card.replaceChildren(...parts);
}

function drawWard(ward) {
  byId("notice").hidden = !ward.notice;
  byId("notice").textContent = ward.notice;
  byId("empty").hidden = ward.patients.length > 0;
  arrange(byId("patients"), ward.patients.map((row) => [row.device, row, buildCard, fillCard]));
  const ms = (value) => (value === null ? "–" : `${Math.round(1000 * value)} ms`);
  byId("foot").textContent =
    `model ${ward.model} · sample to score: median ${ms(ward.delay_p50)}, 99 % within ${ms(ward.delay_p99)} · ` +
    `shed ${ward.shed} samples · refused ${ward.refused} · ${ward.drift}${ward.calibration ? ` · ${ward.calibration}` : ""}` + (ward.errors.length ? ` · ${ward.errors.at(-1)}` : "");
  document.title = `${ward.patients.filter((row) => row.unacknowledged).length || ""} Ward monitor`.trim();
}

function prepare(canvas) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  return [pen, width, height];
}

function drawWave(data) {
  const [pen, width, height] = prepare(byId("wave"));
  const count = data.signal.length;
  if (!count) return;
  const values = data.signal.filter((value) => value !== null).sort((a, b) => a - b);
  const low = values[Math.floor(values.length * 0.005)] ?? -1;
  const high = values[Math.ceil(values.length * 0.995) - 1] ?? 1;
  const seconds = 12;
  const start = data.seconds - count / data.signal_rate;
  const x = (time) => width * (1 - (data.seconds - time) / seconds);
  const y = (value) => height - 14 - (height - 44) * ((value - low) / Math.max(high - low, 0.1));
  pen.strokeStyle = colour("edge");
  pen.lineWidth = 1;
  for (let second = Math.ceil(start); second <= data.seconds; second += 1) {
    pen.beginPath(); pen.moveTo(x(second), 0); pen.lineTo(x(second), height); pen.stroke();
  }
  const classAt = (time) => data.beats.find((beat) => time >= beat.seconds - 0.2 && time < beat.seconds + 0.3)?.class;
  let name = null;
  let open = false;
  pen.lineWidth = 1.6;
  pen.lineJoin = "round";
  data.signal.forEach((value, i) => {
    const time = start + i / data.signal_rate;
    const here = classAt(time) || "text";
    if (value === null) { if (open) pen.stroke(); open = false; return; }
    if (!open || here !== name) {
      if (open) { pen.lineTo(x(time), y(value)); pen.stroke(); }
      pen.beginPath(); pen.strokeStyle = colour(here); pen.moveTo(x(time), y(value)); name = here; open = true;
    } else pen.lineTo(x(time), y(value));
  });
  if (open) pen.stroke();
  pen.font = "bold 13px system-ui, sans-serif";
  pen.textAlign = "center";
  for (const beat of data.beats) {
    if (beat.seconds < start) continue;
    pen.fillStyle = colour(beat.class);
    pen.fillText(beat.class === "unusable" ? "?" : beat.class, x(beat.seconds), 14);
  }
}

function drawTrace(data, name, key, limit) {
  const [pen, width, height] = prepare(byId(name));
  const y = (share) => height - 4 - (height - 8) * share;
  pen.strokeStyle = colour("edge");
  pen.setLineDash([4, 4]);
  pen.beginPath(); pen.moveTo(0, y(limit)); pen.lineTo(width, y(limit)); pen.stroke();
  pen.setLineDash([]);
  const last = data.beats.at(-1)?.seconds ?? 0;
  const first = data.beats[0]?.seconds ?? 0;
  for (const beat of data.beats) {
    const x = 4 + (width - 8) * ((beat.seconds - first) / Math.max(last - first, 1));
    pen.fillStyle = colour(beat.class);
    pen.fillRect(x - 1.5, y(beat[key] ?? 0), 3, height - 4 - y(beat[key] ?? 0) + 1);
  }
}

function drawRisk(data) {
  const risk = data.risk || [];
  byId("risk").hidden = risk.length === 0;
  if (!risk.length) return;
  const [pen, width, height] = prepare(byId("riskplot"));
  const top = Math.max(0.1, ...risk.map((hour) => hour.risk));
  pen.strokeStyle = colour("notice");
  pen.lineWidth = 2;
  pen.beginPath();
  risk.forEach((hour, i) => {
    const x = 4 + (width - 8) * (risk.length > 1 ? i / (risk.length - 1) : 1);
    const y = height - 4 - (height - 8) * (hour.risk / top);
    if (i) pen.lineTo(x, y); else pen.moveTo(x, y);
  });
  pen.stroke();
  const newest = risk.at(-1);
  byId("factors").replaceChildren(
    make("li", "line", `hour ${newest.hour}: risk ${newest.risk.toFixed(3)} (scale to ${top.toFixed(2)})`),
    ...newest.factors.map((factor) => make("li", "faint", `${factor.name}: ${factor.effect > 0 ? "raises" : "lowers"} by ${Math.abs(factor.effect).toFixed(2)}`)));
}

async function acknowledge(number, button) {
  button.disabled = true;
  const answer = await fetch(`/api/alerts/${number}/acknowledge`, { method: "POST" });
  if (!answer.ok) { button.disabled = false; button.textContent = "Not acknowledged: try again"; }
}

function drawAlerts(data) {
  arrange(byId("alerts"), data.alerts.map((alert) => [alert.id, alert, () => make("li"), fillAlert]));
  if (!data.alerts.length) byId("alerts").append(make("li", "faint", "none"));
}

function fillAlert(item, alert) {
  const more = alert.withheld ? ` (${alert.withheld} more of its kind in the hour before)` : "";
  const parts = [
    make("span", "faint", new Date(1000 * alert.wall).toLocaleTimeString()),
    make("span", `line ${alert.level}-text`, `${alert.kind}: ${alert.text}${more}`),
  ];
  if (alert.acknowledged_by) {
    const time = new Date(1000 * alert.acknowledged_at).toLocaleTimeString();
    parts.push(make("span", "faint", `acknowledged by ${alert.acknowledged_by}, ${time}`));
  } else {
    const button = make("button", "acknowledge", "Acknowledge");
    button.type = "button";
    button.addEventListener("click", () => acknowledge(alert.id, button));
    parts.push(button);
  }
  item.replaceChildren(...parts);
}

function drawPatient(data) {
  if (data.device !== wanted()) return;
  patient = data;
  byId("device").textContent = `${data.device}, lead ${data.lead}`;
  byId("state").textContent = `${data.rate === null ? "–" : data.rate} /min · ${describeState(data)}`;
  drawWave(data);
  drawTrace(data, "trace", "alarm", 0.8);
  byId("unusual").hidden = !data.beats.some((beat) => beat.unusual !== null);
  if (!byId("unusual").hidden) drawTrace(data, "anomaly", "unusual", 0.5);
  drawRisk(data);
  drawAlerts(data);
}

function connect() {
  if (source) source.close();
  const device = wanted();
  byId("ward").hidden = Boolean(device);
  byId("patient").hidden = !device;
  source = new EventSource(`/api/events${device ? `?device=${encodeURIComponent(device)}` : ""}`);
  source.addEventListener("open", () => { byId("link").textContent = "live"; byId("link").className = ""; });
  source.addEventListener("error", () => { byId("link").textContent = "no connection to the monitor"; byId("link").className = "down"; });
  source.addEventListener("ward", (event) => drawWard(JSON.parse(event.data)));
  source.addEventListener("patient", (event) => drawPatient(JSON.parse(event.data)));
}

byId("back").addEventListener("click", () => { location.hash = ""; });
window.addEventListener("hashchange", connect);
window.addEventListener("resize", () => { if (patient && wanted()) drawPatient(patient); });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") location.hash = "";
  if (event.key === "a" && wanted()) document.querySelector("#alerts button")?.click();
});
connect();
