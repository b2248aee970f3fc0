// One request: all its moments, and what the model said.

function oneSection() {
  return el(
    "section",
    { class: "one", "aria-labelledby": "one" },
    el("h2", { id: "one" }, "One request"),
    el("p", { class: "soft" }, "Click a request in a chart, or give its number."),
    el(
      "form",
      { id: "one-form" },
      el(
        "label",
        { class: "field" },
        "Number ",
        el("input", { type: "number", name: "number", min: "0", step: "1" }),
      ),
      " ",
      el("button", {}, "Show"),
    ),
    el("div", { id: "one-shown", "aria-live": "polite" }),
  );
}

const MOMENTS = [
  ["scheduled", "was due"],
  ["acquired", "had a connection"],
  ["gate_passed", "was its turn to be sent"],
  ["sent", "was sent"],
  ["headers", "headers came"],
  ["first_byte", "first byte"],
  ["first_token", "first token"],
  ["first_output", "first output"],
  ["last_token", "last token"],
  ["end", "end of the stream"],
];

function showRequest(i) {
  const { number: input } = document.getElementById("one-form").elements;
  const shown = document.getElementById("one-shown");
  input.value = REQUESTS.number[i];
  shown.replaceChildren(
    el(
      "div",
      { class: "panels" },
      requestFacts(i),
      table({
        caption: `Called at ${seconds(REQUESTS.created[i])} of the run`,
        head: ["moment", "ms after the call"],
        rows: MOMENTS.filter(([name]) => REQUESTS[name][i] !== null).map(([name, words]) => [
          words,
          milliseconds(REQUESTS[name][i]),
        ]),
      }),
      requestText(i),
    ),
  );
}

function requestFacts(i) {
  const status = REQUESTS.status[i];
  const detail = REQUESTS.details[REQUESTS.detail[i]];
  return facts([
    ["Request", requestWords(i)],
    ["Outcome", outcomeOf(i)],
    detail && ["What happened", detail],
    status !== null && ["Status", String(status)],
    ["Target", targetName(REQUESTS.target[i])],
    SWEPT && ["Load", stageName(REQUESTS.stage[i])],
    ["Worker", String(REQUESTS.worker[i])],
    ["Chunks", whole(REQUESTS.chunks[i])],
    ["Output tokens", whole(REQUESTS.tokens[i])],
    ["Time per output token", ms(REQUESTS.tpot[i])],
    [
      "Longest gap",
      REQUESTS.gap[i] === null
        ? "–"
        : `${ms(REQUESTS.gap[i])}, ended at ${seconds(moment(i, "gap_end"))} of the run`,
    ],
    REQUESTS.warmup[i] === 1 && ["Warm-up", "in no figure"],
  ]);
}

function requestText(i) {
  const text = REQUESTS.text?.[i];
  return text == null ? null : panel("What the model said", el("pre", { class: "foreign" }, text));
}

function findRequest(event) {
  event.preventDefault();
  const wanted = event.target.elements.number.value;
  const i = REQUESTS.number.indexOf(Number(wanted));
  if (wanted !== "" && i >= 0) showRequest(i);
  else
    document
      .getElementById("one-shown")
      .replaceChildren(el("p", {}, `There is no request ${wanted} in this page.`));
}
