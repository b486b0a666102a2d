"use strict";
// Reads the state once a second, and shows it as text: nothing that a site sends becomes markup.
const part = (id) => document.getElementById(id);
const number = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));

function duration(seconds) {
  if (seconds === null) return "not known yet";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function draw(svg, history, key, rounds) {
  const make = (name, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const points = history.filter((line) => typeof line[key] === "number");
  const parts = [make("line", { x1: 50, y1: 125, x2: 390, y2: 125, class: "axis" })];
  if (points.length) {
    const values = points.map((line) => line[key]);
    const low = Math.min(...values), high = Math.max(...values), span = high - low || 1;
    const last = Math.max(rounds, 2);
    const place = (line) => [50 + (340 * (line.round - 1)) / (last - 1), 120 - (100 * (line[key] - low)) / span];
    parts.push(make("polyline", { points: points.map((line) => place(line).join(",")).join(" "), class: "curve" }));
    const [x, y] = place(points[points.length - 1]);
    parts.push(make("circle", { cx: x, cy: y, r: 3.5, class: "dot" }));
    parts.push(make("text", { x: 45, y: 24, class: "end" }, high.toFixed(3)));
    if (high !== low) parts.push(make("text", { x: 45, y: 124, class: "end" }, low.toFixed(3)));
    parts.push(make("text", { x: 50, y: 142 }, "round 1"), make("text", { x: 390, y: 142, class: "end" }, `round ${last}`));
    svg.setAttribute("aria-label", `By round: last ${values[values.length - 1].toFixed(3)}, from ${low.toFixed(3)} to ${high.toFixed(3)}`);
  } else {
    parts.push(make("text", { x: 200, y: 75, class: "middle" }, "no figures yet"));
  }
  svg.replaceChildren(...parts);
}

function show(state) {
  document.title = state.rounds ? `${state.round} of ${state.rounds}: ${state.title}` : state.title || "Run in progress";
  part("title").textContent = state.title || "A run";
  part("status").textContent = state.status;
  part("stage").textContent = state.stage;
  part("round").textContent = `${state.round} of ${state.rounds || "?"}`;
  part("bar").max = state.rounds || 1;
  part("bar").value = state.round;
  part("left").textContent = state.status === "running" ? duration(state.seconds_left) : "none";
  part("awaited").textContent = state.awaited.length ? state.awaited.join(", ") : "nobody";
  part("metric").textContent = state.metric_title || "Validation figure";
  const notices = state.notices.map((text) => element("div", text, "notice leak"));
  if (state.synthetic) notices.unshift(element("div", "SYNTHETIC data: generated, not from patients", "notice synthetic"));
  part("notices").replaceChildren(...notices);
  draw(part("loss"), state.history, "loss", state.rounds);
  draw(part("value"), state.history, "value", state.rounds);
  part("sites").replaceChildren(...Object.entries(state.sites).sort().map(([name, site]) => {
    const row = document.createElement("tr"), head = element("th", name);
    head.scope = "row";
    row.append(head, element("td", site.state));
    for (const text of [site.patients ?? "–", site.rounds, number(site.loss, 3), number(site.value, 3), number(site.epsilon, 2)]) {
      row.append(element("td", text, "num"));
    }
    return row;
  }));
  const messages = state.messages.slice().reverse();
  part("messages").replaceChildren(...(messages.length ? messages : ["none"]).map((text) => element("li", text)));
}

async function follow() {
  let next = 1000;
  try {
    const answer = await fetch("/state.json", { cache: "no-store" });
    const state = await answer.json();
    show(state);
    if (state.status === "ended") next = 0;
  } catch {
    part("status").textContent = "no longer connected";
    part("stage").textContent = "the command that ran it has ended; its report is in the run's folder";
    part("left").textContent = "not known";
    next = 5000;
  }
  if (next) setTimeout(follow, next);
}
follow();
