// The page round noVNC: gets the session, connects, comes back when the connection breaks, and has the tools.
import RFB from "/console/novnc/core/rfb.js";
import { CHORDS, HELD, KEYS, PRESSES, STRIP, layoutNames, strokes } from "/console/keys.js";

const $ = (id) => document.getElementById(id);
const body = document.body;

// Taken out of the address at once: it must not be in the history, a bookmark or a screenshot.
const query = new URLSearchParams(location.search);
let token = query.get("token") ?? "";
history.replaceState(null, "", location.pathname);

const CLOSED = {
  4000: "This session was ended.",
  4001: "This session was idle for too long.",
  4002: "This session has reached its longest time.",
  4007: "The recording is over.",
};
const REFUSED = {
  unknown: ["This link is not valid", "Open the console again from the cloud's page."],
  used: ["This link was used before", "A link opens a console once. Open it again from the cloud's page."],
  expired: ["This link has expired", "Open the console again from the cloud's page."],
  ended: ["The session is over", "Open the console again from the cloud's page."],
  foreign: ["This page may not open consoles", "It was reached by a name that the proxy does not know."],
};
const LONGEST_PAUSE = 15, GIVE_UP = 300;

const settings = {
  size: "scale", quality: 6, cursor: true, layout: guessLayout(), automatic: false,
  ...JSON.parse(localStorage.getItem("console") ?? "{}"),
};
let session = null, rfb = null, tries = 0, since = 0, timer = 0;
const held = new Set();

function guessLayout() {
  const language = (navigator.language ?? "en").toLowerCase();
  if (language === "en-gb") return "gb";
  return { de: "de", fr: "fr", es: "es", ja: "jp" }[language.slice(0, 2)] ?? "us";
}

// ---- what is shown

function show(state, heading = "", detail = "", again = false) {
  body.dataset.state = state;
  $("status").textContent = { connected: "", connecting: "Connecting…", waiting: "Reconnecting…", ended: "Disconnected" }[state] ?? "";
  $("heading").textContent = heading;
  $("detail").textContent = detail;
  $("again").hidden = !again;
  if (heading) $("message").show(); else $("message").close();
  if (again) $("again").focus();
}

let noticeTimer = 0;
function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { $("notice").hidden = true; }, 3500);
}

// ---- the session and its connection

async function ask(what) {
  const answer = await fetch("/console/session", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what), cache: "no-store",
  });
  return answer.json();
}

async function start() {
  show("connecting", "Connecting", "");
  const known = sessionStorage.getItem("session");
  if (!token && !known) return show("ended", ...REFUSED.unknown);
  try {
    const facts = await ask(token ? { token } : { session: known });
    if (facts.state !== "ready") {
      sessionStorage.removeItem("session");
      return show("ended", ...(REFUSED[facts.state] ?? REFUSED.unknown));
    }
    session = facts;
  } catch {
    return later("The proxy cannot be reached.");
  }
  $("name").textContent = session.name;
  document.title = `${session.name} – console`;
  $("badge-view").hidden = !session.viewOnly || session.playback;
  $("badge-recorded").hidden = !session.recorded;
  $("badge-playback").hidden = !session.playback;
  for (const element of document.querySelectorAll(".input")) element.hidden ||= session.viewOnly || session.playback;
  for (const element of document.querySelectorAll(".clip")) element.hidden = session.viewOnly || session.playback;
  for (const element of document.querySelectorAll(".clip-only")) element.hidden = !session.clipboard;
  watchClock();
  connect();
}

function connect() {
  show("connecting", "Connecting", session.recorded ? "This session is recorded." : "");
  const address = new URL("/websockify", location.href);
  address.protocol = location.protocol.replace("http", "ws");
  if (token) address.searchParams.set("token", token); else address.searchParams.set("session", session.session);
  const socket = new WebSocket(address);
  let opened = false, closed = null;
  socket.addEventListener("open", () => {
    // used up: from here on the cookie that came with the answer is what brings us back
    opened = true;
    token = "";
    sessionStorage.setItem("session", session.session);
  });
  socket.addEventListener("close", (event) => { closed = event; });
  $("screen").replaceChildren();
  rfb = new RFB($("screen"), socket, { shared: true });
  rfb.viewOnly = session.viewOnly || session.playback;
  rfb.background = "transparent";
  apply();
  rfb.addEventListener("connect", () => {
    tries = since = 0;
    show("connected");
    rfb.focus();
    if (session.recorded) notice("This session is recorded.");
  });
  rfb.addEventListener("clipboard", (event) => received(event.detail.text));
  rfb.addEventListener("disconnect", async () => {
    rfb = null;
    held.clear();
    refreshHeld();
    // the socket's close event has the code; it comes with or right after this one
    if (closed === null) await new Promise((resolve) => { socket.addEventListener("close", resolve); setTimeout(resolve, 500); });
    ended(closed?.code ?? 1006, opened);
  });
}

function ended(code, opened) {
  if (body.dataset.state === "ended") return;
  if (code === 4008) return start();
  if (code === 4007) return show("ended", "The recording is over", "", true);
  if (CLOSED[code]) {
    sessionStorage.removeItem("session");
    return show("ended", "The session is over", `${CLOSED[code]} Open the console again from the cloud's page.`);
  }
  if (code === 4003) return show("ended", "Opened elsewhere", "Another tab or window shows this console now.", true);
  later({ 4004: "The machine's screen went away.", 4005: "The machine's screen cannot be reached now.", 4006: "The proxy is restarting." }[code]
    ?? (opened ? "The connection broke." : "The proxy cannot be reached."));
}

function later(reason) {
  since ||= Date.now();
  if (Date.now() - since > GIVE_UP * 1000) return show("ended", "No connection", reason, true);
  const pause = Math.min(LONGEST_PAUSE, 2 ** tries++);
  show("waiting", "Reconnecting", reason, tries > 1);
  clearTimeout(timer);
  timer = setTimeout(start, pause * 1000);
}

$("again").addEventListener("click", () => { tries = since = 0; clearTimeout(timer); start(); });
addEventListener("online", () => { if (body.dataset.state === "waiting") { clearTimeout(timer); start(); } });
$("disconnect").addEventListener("click", () => {
  show("ended", "Disconnected", "", true);
  rfb?.disconnect();
});

// ---- a recording: its clock is the proxy's, which is asked twice a second

let asking = 0, moving = false;
async function playback(what = {}) {
  if (!session?.playback) return;
  try {
    const answer = await fetch("/console/playback", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ session: session.session, ...what }), cache: "no-store",
    });
    if (answer.ok) showClock(await answer.json());
  } catch { /* the connection's own end is told elsewhere */ }
}
function clockText(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
function showClock({ position, length, speed, paused }) {
  $("moment").max = length;
  if (!moving) $("moment").value = position;
  $("time").textContent = `${clockText(position)} / ${clockText(length)}`;
  $("speed").value = speed;
  $("play").setAttribute("aria-pressed", String(paused));
  $("play").title = paused ? "Play" : "Pause";
}
function watchClock() {
  clearInterval(asking);
  $("player").hidden = !session.playback;
  if (session.playback) asking = setInterval(() => { if (body.dataset.state === "connected") playback(); }, 500);
}
$("play").addEventListener("click", () => playback({ paused: $("play").getAttribute("aria-pressed") !== "true" }));
$("speed").addEventListener("change", () => playback({ speed: Number($("speed").value) }));
$("moment").addEventListener("input", () => { moving = true; });
$("moment").addEventListener("change", async () => { await playback({ at: Number($("moment").value) }); moving = false; });

// ---- panels

const PANELS = ["keys", "clipboard", "view"];
function toggle(name) {
  for (const one of PANELS) {
    const open = one === name && $(`panel-${one}`).hidden;
    $(`panel-${one}`).hidden = !open;
    $(one).setAttribute("aria-expanded", String(open));
  }
}
for (const name of PANELS) $(name).addEventListener("click", () => toggle(name));
$("screen").addEventListener("pointerdown", () => toggle(null));
addEventListener("keydown", (event) => { if (event.key === "Escape" && event.target.closest(".panel")) { toggle(null); rfb?.focus(); } });

// ---- keys

function press(names) {
  const keys = names.map((name) => KEYS[name]);
  for (const [keysym, code] of keys) rfb?.sendKey(keysym, code, true);
  for (const [keysym, code] of keys.toReversed()) rfb?.sendKey(keysym, code, false);
}
function hold(name) {
  if (held.has(name)) held.delete(name); else held.add(name);
  rfb?.sendKey(...KEYS[name], held.has(name));
  refreshHeld();
}
function release() {
  for (const name of [...held]) hold(name);
}
function refreshHeld() {
  for (const button of document.querySelectorAll("[data-hold]")) button.setAttribute("aria-pressed", String(held.has(button.dataset.hold)));
}
function addKey(parent, name) {
  const button = document.createElement("button");
  button.textContent = name.replaceAll(" ", " + ");
  if (HELD.includes(name)) {
    button.dataset.hold = name;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => hold(name));
  } else {
    button.addEventListener("click", () => { press(name.split(" ")); release(); });
  }
  // the keyboard of a phone stays open
  button.addEventListener("pointerdown", (event) => { if (parent.id === "strip") event.preventDefault(); });
  parent.append(button);
}
CHORDS.forEach((name) => addKey($("chords"), name));
HELD.forEach((name) => addKey($("held"), name));
PRESSES.forEach((name) => addKey($("presses"), name));
STRIP.forEach((name) => addKey($("strip"), name));
$("ctrl-alt-del").addEventListener("click", () => { rfb?.sendCtrlAltDel(); toggle(null); rfb?.focus(); });

// ---- a phone's keyboard: what it does to a hidden text is what is typed

const FILL = "\u200b".repeat(64);
function refill() {
  $("soft").value = FILL;
  $("soft").setSelectionRange(FILL.length, FILL.length);
}
$("keyboard").addEventListener("click", () => {
  const open = $("keyboard").getAttribute("aria-pressed") !== "true";
  if (open) { refill(); $("soft").focus(); } else $("soft").blur();
});
$("soft").addEventListener("focus", () => { $("keyboard").setAttribute("aria-pressed", "true"); $("strip").hidden = false; });
$("soft").addEventListener("blur", () => { $("keyboard").setAttribute("aria-pressed", "false"); $("strip").hidden = true; release(); });
$("soft").addEventListener("input", () => {
  const now = $("soft").value;
  let same = 0;
  while (same < now.length && same < FILL.length && now[same] === FILL[same]) same++;
  for (let gone = same; gone < FILL.length; gone++) press(["⌫"]);
  // with Shift where a character needs it: QEMU does not press it by itself
  for (const stroke of strokes(now.slice(same), settings.layout)) rfb?.sendKey(...stroke);
  release();
  refill();
});

// ---- clipboard

function received(text) {
  if (!session.clipboard) return;
  $("text").value = text;
  if (settings.automatic) navigator.clipboard?.writeText(text).catch(() => {});
}
let lastSent = null;
async function share() {
  if (!settings.automatic || !session?.clipboard || !rfb || !document.hasFocus()) return;
  try {
    const text = await navigator.clipboard.readText();
    if (text && text !== lastSent && text !== $("text").value) rfb.clipboardPasteFrom(lastSent = text);
  } catch { /* the browser says no */ }
}
addEventListener("focus", share);
// a paste into the screen: noVNC takes the keys, the text comes with the event
addEventListener("paste", (event) => {
  const text = event.clipboardData?.getData("text/plain");
  if (text && rfb && session?.clipboard && !event.target.closest(".panel")) { rfb.clipboardPasteFrom(text); notice("Sent to the machine's clipboard."); }
});
$("send").addEventListener("click", () => { rfb?.clipboardPasteFrom($("text").value); notice("Sent to the machine's clipboard."); });
$("copy").addEventListener("click", async () => {
  try { await navigator.clipboard.writeText($("text").value); notice("Copied."); } catch { $("text").select(); notice("Press Ctrl + C to copy."); }
});
$("type").addEventListener("click", async () => {
  const mine = rfb;
  let sent = 0;
  for (const stroke of strokes($("text").value, settings.layout)) {
    if (mine !== rfb || !mine) return;
    mine.sendKey(...stroke);
    // a guest's keyboard buffer is small
    if (++sent % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 40));
  }
  toggle(null);
  rfb?.focus();
});
for (const [id, name] of layoutNames) $("layout").append(new Option(name, id));

// ---- view

function apply() {
  localStorage.setItem("console", JSON.stringify(settings));
  if (!rfb) return;
  const remote = settings.size === "remote" && !rfb.viewOnly;
  rfb.scaleViewport = settings.size === "scale" || (settings.size === "remote" && !remote);
  rfb.resizeSession = remote;
  rfb.clipViewport = settings.size === "none";
  rfb.dragViewport = settings.size === "none" && matchMedia("(pointer: coarse)").matches;
  rfb.qualityLevel = Number(settings.quality);
  rfb.showDotCursor = settings.cursor;
}
for (const radio of document.querySelectorAll("[name=size]")) {
  radio.checked = radio.value === settings.size;
  radio.addEventListener("change", () => { settings.size = radio.value; apply(); });
}
for (const [id, property] of [["quality", "value"], ["layout", "value"], ["cursor", "checked"], ["automatic", "checked"]]) {
  $(id)[property] = settings[id];
  $(id).addEventListener("change", () => { settings[id] = $(id)[property]; apply(); if (id === "automatic") share(); });
}
$("fullscreen").hidden = !document.fullscreenEnabled;
$("fullscreen").addEventListener("click", async () => {
  if (document.fullscreenElement) return document.exitFullscreen();
  await document.documentElement.requestFullscreen({ navigationUI: "hide" }).catch(() => notice("This browser does not allow it here."));
  // Alt+Tab, the Windows key and Escape go to the machine where the browser lets them
  navigator.keyboard?.lock?.().catch(() => {});
  rfb?.focus();
});
document.addEventListener("fullscreenchange", () => {
  $("fullscreen").setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
  if (!document.fullscreenElement) navigator.keyboard?.unlock?.();
});

start();
