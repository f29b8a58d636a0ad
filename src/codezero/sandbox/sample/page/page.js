"use strict";

const PERIOD = 3000;
const KEPT_MESSAGES = 50;

const query = new URLSearchParams(location.search);
// From a laptop that consumes the cluster: ask the services by their own names instead of through the frontend.
const local = query.has("l") || query.has("localhost");
const socketScheme = location.protocol === "https:" ? "wss:" : "ws:";
const coreUrl = local ? "http://sample-project-core.sample-project:3000/api" : "/api";
const socketsUrl = local
  ? "ws://sample-project-sockets.sample-project:8999/sockets"
  : `${socketScheme}//${location.host}/sockets`;

const part = (id) => document.getElementById(id);

let answers = 0;
let socket = null;

function showState(id, good, text) {
  const state = part(`${id}-state`);
  state.textContent = text;
  state.className = `state ${good ? "good" : "bad"}`;
}

function showFields(id, fields) {
  const rows = Object.entries(fields).map(([name, value]) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    const cell = document.createElement("td");
    head.scope = "row";
    head.textContent = name;
    cell.textContent = typeof value === "string" ? value : JSON.stringify(value);
    row.append(head, cell);
    return row;
  });
  part(id).tBodies[0].replaceChildren(...rows);
}

function showAnswer(answer) {
  const { database = {}, leaf = {}, file = {}, ...core } = answer;
  for (const [id, fields] of Object.entries({ core, leaf, database, file })) {
    showFields(id, fields);
    showState(id, !("error" in fields), "error" in fields ? "error" : "fine");
  }
  part("raw").textContent = JSON.stringify(answer, null, 2);
}

async function ask() {
  try {
    const response = await fetch(coreUrl, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    const answer = await response.json();
    if (!response.ok) {
      throw new Error(answer.error ?? `core answered ${response.status}`);
    }
    showAnswer(answer);
    answers += 1;
    part("count").textContent = String(answers);
  } catch (error) {
    showFields("core", { error: error.message });
    showState("core", false, "no answer");
    for (const id of ["leaf", "database", "file"]) {
      showFields(id, {});
      showState(id, false, "unknown");
    }
  }
  setTimeout(ask, PERIOD);
}

function note(text) {
  const messages = part("messages");
  const item = document.createElement("li");
  item.textContent = text;
  messages.append(item);
  while (messages.childElementCount > KEPT_MESSAGES) {
    messages.firstElementChild.remove();
  }
  messages.scrollTop = messages.scrollHeight;
}

function showConnection(state) {
  showState("sockets", state === "connected", state);
  part("connect").textContent = socket === null ? "Connect" : "Disconnect";
  for (const button of [part("broadcast"), part("say").querySelector("[type=submit]")]) {
    button.disabled = state !== "connected";
  }
}

function connect() {
  socket = new WebSocket(socketsUrl);
  socket.addEventListener("open", () => showConnection("connected"));
  socket.addEventListener("message", (event) => note(event.data));
  socket.addEventListener("close", (event) => {
    socket = null;
    showConnection("not connected");
    if (event.reason) {
      note(`Closed: ${event.reason}`);
    }
  });
  showConnection("connecting");
}

function say(prefix) {
  const message = part("message");
  if (socket?.readyState === WebSocket.OPEN && message.value !== "") {
    socket.send(prefix + message.value);
    message.value = "";
  }
  message.focus();
}

part("say").addEventListener("submit", (event) => {
  event.preventDefault();
  say("");
});
part("broadcast").addEventListener("click", () => say("broadcast: "));
part("connect").addEventListener("click", () => (socket === null ? connect() : socket.close()));
part("origin").textContent = local ? "Asking the services by name" : "Asking through the frontend";

connect();
ask();
