// A conversation with the service. Whatever is said is shown as text, never as markup.

const conversation = document.getElementById("conversation");
const form = document.getElementById("ask");
const question = document.getElementById("question");
const send = document.getElementById("send");

const messages = [];
let asking = null; // what stops the answer that is growing

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (asking) asking.abort();
  else if (question.value.trim()) ask(question.value.trim());
});

question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !asking) {
    event.preventDefault();
    form.requestSubmit();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") asking?.abort();
});

async function ask(text) {
  document.getElementById("welcome")?.remove();
  question.value = "";
  add("article", "user", text);
  messages.push({ role: "user", content: text });
  const answer = add("article", "assistant growing", "");
  asking = new AbortController();
  send.textContent = "Stop";
  try {
    note(await read(await request(asking.signal), answer));
  } catch (error) {
    if (error.name === "AbortError") note("Stopped.");
    else note(error instanceof Refusal ? error.message : "The connection was lost.", "bad");
  } finally {
    answer.classList.remove("growing");
    // What the model said counts, also if it was stopped; a question without an answer doesn't.
    if (answer.textContent) messages.push({ role: "assistant", content: answer.textContent });
    else messages.pop();
    asking = null;
    send.textContent = "Send";
    question.focus();
  }
}

class Refusal extends Error {}

async function request(signal) {
  const response = await fetch("chat", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ messages }),
    signal,
  });
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw new Refusal(said?.error?.message ?? `The service answered with ${response.status}.`);
}

// Shows an answer as it comes, and returns what to note below it.
async function read(response, answer) {
  for await (const { event, data } of frames(response.body)) {
    if (event === "error") throw new Refusal(data.message);
    if (event === "done") return ended(data);
    if (data.text) grow(answer, data.text);
  }
  throw new Error("it ended without a word");
}

function ended({ verdict, time_to_first_token: wait }) {
  if (verdict === "length") return "The answer was too long and ends here.";
  if (verdict === "content_filter") return "The rest was held back by a content filter.";
  if (verdict === "empty") return "There was no answer.";
  return wait === undefined ? "" : `First words after ${wait.toFixed(2)} s`;
}

// The events of a stream; each is one line of JSON, see chatstream.relay.TextFormat.
async function* frames(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const fields = Object.fromEntries(part.split("\n").map((line) => cut(line, ": ")));
      if (fields.data) yield { event: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

function cut(text, mark) {
  const at = text.indexOf(mark);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + mark.length)];
}

function grow(element, text) {
  const last = conversation.scrollHeight - conversation.scrollTop - conversation.clientHeight < 40;
  element.append(text);
  if (last) conversation.scrollTop = conversation.scrollHeight;
}

function add(tag, kind, text) {
  const element = document.createElement(tag);
  element.className = kind;
  element.textContent = text;
  conversation.append(element);
  conversation.scrollTop = conversation.scrollHeight;
  return element;
}

function note(text, kind = "") {
  if (text) add("p", `note ${kind}`, text).setAttribute("role", kind ? "alert" : "status");
}
