// How things are called, and numbers as text.

const OUTCOME_WORDS = {
  finished: "finished",
  length: "cut by the token limit",
  content_filter: "cut by a content filter",
  closed: "closed by the client",
  cancelled: "cancelled",
  truncated: "cut in transit",
  empty: "empty answer",
  connect_error: "no connection",
  http_error: "HTTP error",
  timeout: "timeout",
  upstream_error: "error inside the stream",
  malformed: "unreadable",
  not_attempted: "never made",
};

const ORIGINS = {
  created: { label: "call", suffix: "", words: "from the call" },
  sent: { label: "sent", suffix: "_from_sent", words: "from the moment the request was sent" },
  scheduled: {
    label: "schedule",
    suffix: "_from_schedule",
    words: "from the moment the request was due",
  },
};

// Each metric: its name in summary.json, its words, its formula, what others call it, and
// a request's value; those without `since` are the same from every origin.
const METRICS = [
  {
    name: "time_to_first_token",
    label: "Time to first token",
    since: "first_token",
    formula: "first event with content, reasoning, refusal, audio or a tool call − call",
    others: "TTFT",
  },
  {
    name: "time_to_first_output",
    label: "Time to first output",
    since: "first_output",
    formula: "first token-bearing event that isn’t reasoning − call",
    others: "TTFO",
  },
  {
    name: "inter_chunk_latency",
    label: "Inter-chunk latency",
    counted: true,
    formula:
      "time between neighbouring token-bearing events of one choice; all gaps of all" +
      " streams together",
    others: "vLLM “ITL”, aiperf ICL, OpenTelemetry time_per_output_chunk",
  },
  {
    name: "time_per_output_token",
    label: "Time per output token",
    column: "tpot",
    formula:
      "(last token − first token) ÷ (output tokens − tokens in the first event), by the" +
      " server’s count",
    others: "TPOT, aiperf ITL",
  },
  {
    name: "duration",
    label: "Duration",
    since: "last_token",
    formula: "last token-bearing event − call",
    others: "E2EL, request latency",
  },
];

const METRIC = Object.fromEntries(METRICS.map((metric) => [metric.name, metric]));

const FURTHER = [
  ["time_to_first_byte", "Time to first byte", "first byte of the body − call", "TTFB"],
  [
    "time_to_first_chunk",
    "Time to first chunk",
    "first data event of any kind − call",
    "OpenTelemetry time_to_first_chunk; near to what vLLM’s client calls TTFT",
  ],
  ["stream_end", "End of stream", "the stream was over − call", ""],
  ["dispatch_delay", "Dispatch delay", "call − the moment it was due", "client queue time"],
  ["prompt_tokens", "Prompt tokens", "the server’s count", ""],
  ["completion_tokens", "Completion tokens", "the server’s count", "output tokens"],
  ["reasoning_tokens", "Reasoning tokens", "the server’s count, part of the above", ""],
].map(([name, label, formula, others]) => ({ name, label, formula, others }));

const SHARES = { p50: 0.5, p90: 0.9, p95: 0.95, p99: 0.99, p999: 0.999 };
const SHARE_WORDS = { p50: "p50", p90: "p90", p95: "p95", p99: "p99", p999: "p99.9" };

function outcomeWords(name) {
  return OUTCOME_WORDS[name] ?? name;
}

function hasOutput() {
  return REQUESTS.first_output.some((at, i) => at !== REQUESTS.first_token[i]);
}

// The metrics that this run has something to say about.
function shownMetrics() {
  return METRICS.filter((metric) => metric.name !== "time_to_first_output" || hasOutput());
}

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

// About three digits, as tables have them everywhere in chatstream.
function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  return `${value < 0 ? "−" : ""}${digits(size)}`;
}

function digits(size) {
  if (size >= 99.95) return WHOLE.format(size);
  if (size >= 9.995) return size.toFixed(1);
  if (size >= 0.0995 || size === 0) return size.toFixed(2);
  return size >= 0.001 ? size.toFixed(3) : "<0.001";
}

function whole(value) {
  return value === null || value === undefined ? "–" : WHOLE.format(value);
}

function milliseconds(value) {
  return value === null || value === undefined ? "–" : number(value * 1000);
}

function ms(value) {
  return `${milliseconds(value)}\u00a0ms`;
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  return `${value.toFixed(Math.abs(value) < 100 ? 2 : 1)}\u00a0s`;
}

function percent(share, places = 1) {
  if (share === null || share === undefined) return "–";
  const text = (share * 100).toFixed(places);
  return `${text.replace(/\.0+$/, "")}\u00a0%`;
}

function figure(value, unit) {
  return unit === "s" ? milliseconds(value) : number(value);
}

function plural(count, one, many = `${one}s`) {
  return `${whole(count)} ${count === 1 ? one : many}`;
}

// Foreign text as it is shown: a spreadsheet that a table is pasted into runs no formula.
function inert(text) {
  return /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
}

// Foreign text inside a chart, where plotly would read tags and entities.
function plain(text) {
  return inert(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function requestWords(i) {
  const turn = REQUESTS.turn[i] ? `, turn ${REQUESTS.turn[i] + 1}` : "";
  return `${whole(REQUESTS.number[i])}${turn}`;
}

function targetName(place) {
  const target = SUMMARY.targets[place];
  return target === undefined ? `target ${place}` : target.name || `${target.model}`;
}

function stageName(place) {
  const stage = SUMMARY.stages[place];
  return stage === undefined ? `stage ${place}` : loadWords(SUMMARY.sweep.over, stage.value);
}

function loadWords(over, value) {
  return over === "request_rate" ? `${number(value)} requests/s` : `${whole(value)} at a time`;
}
