// The top of the page: what was measured, how fast it was, and what to make of it.

function heading() {
  const models = [...new Set(SUMMARY.targets.map((target) => target.model).filter(Boolean))];
  if (models.length > 0) document.title = `Latency of ${models.join(", ")}`;
  return [
    el(
      "div",
      { class: "brand" },
      el("p", {}, `chatstream ${SUMMARY.chatstream ?? ""} · latency report`),
      themeChoice(),
    ),
    el(
      "h1",
      {},
      models.length > 0
        ? models.flatMap((model, place) => [place ? ", " : null, foreign(model)])
        : "Latency report",
    ),
    el("p", { class: "meta" }, metaWords()),
    el(
      "nav",
      { "aria-label": "On this page" },
      el(
        "ul",
        {},
        SECTIONS().map(([id, title]) => el("li", {}, el("a", { href: `#${id}` }, title))),
      ),
    ),
  ];
}

function SECTIONS() {
  return [
    ["figures", "Figures"],
    ...CHARTS.map(({ id, title }) => [id, title]),
    ["one", "One request"],
    ["run", "The run"],
    ["formulas", "Formulas"],
  ];
}

function metaWords() {
  const urls = [...new Set(SUMMARY.targets.map((target) => target.base_url))];
  const when = SUMMARY.started?.replace("T", " ").replace(/(\.\d+)?(Z|\+00:00)$/, " UTC");
  const spans = [
    ...urls.map(foreign),
    when && foreign(when),
    loadSentence(),
    `${plural(REQUESTS.all, "request")} in ${seconds(SUMMARY.load_seconds ?? RUN_END)}`,
  ].filter(Boolean);
  return spans.flatMap((span, place) => [place ? " · " : null, span]);
}

function loadSentence() {
  const load = SUMMARY.plan?.load;
  if (!load) return null;
  if (SWEPT) return `a sweep of ${plural(SUMMARY.stages.length, "load")}`;
  if (load.schedule) return "by a schedule";
  if (load.request_rate === null) return `${whole(load.max_concurrency)} at a time`;
  return typeof load.request_rate === "number"
    ? `${number(load.request_rate)} requests/s`
    : "all at once";
}

function tiles() {
  const metric = (name) => SUMMARY.metrics[name];
  const latency = (title, found) =>
    tile(
      title,
      found?.n ? milliseconds(found.p50) : "–",
      "ms",
      found?.n
        ? [`median; p99 ${ms(found.p99)}`, el("br"), certainty(found, "p99")]
        : ["not observed"],
    );
  const tokens = SUMMARY.throughput.output_tokens_per_second;
  const rate = SUMMARY.throughput.requests_per_second;
  const [shown, unit] = tokens ? [tokens, "tokens/s"] : [rate, "answers/s"];
  return el(
    "div",
    { class: "tiles" },
    latency("Time to first token", metric("time_to_first_token")),
    latency("Inter-chunk latency", metric("inter_chunk_latency")),
    latency("Duration", metric("duration")),
    tile(
      "Throughput",
      number(shown?.value),
      unit,
      [
        tokens ? [`${number(rate?.value)} answers/s`, el("br")] : [],
        `${number(SUMMARY.throughput.mean_concurrency)} in flight on average`,
      ].flat(),
    ),
  );
}

function tile(title, big, unit, below) {
  return el(
    "div",
    { class: "tile" },
    el("h3", {}, title),
    el("p", { class: "big" }, big, el("small", {}, unit)),
    el("p", { class: "soft" }, below),
  );
}

function certainty(found, key) {
  if (found.unsure?.includes(key)) return "from too few requests to be sure";
  const ci = found.ci?.[key];
  return ci ? `95 % sure of ${figure(ci[0], found.unit)}–${figure(ci[1], found.unit)}` : "";
}

const MARKS = {
  ok: ["✓", "Good: "],
  warn: ["!", "Warning: "],
  bad: ["✕", "Bad: "],
  info: ["i", "Note: "],
};

function findings() {
  const found = [
    clientFinding(),
    failureFinding(),
    goodputFinding(),
    certaintyFinding(),
    ...stallFindings(),
    steadyFinding(),
    interruptedFinding(),
    workersFinding(),
    truthFinding(),
    sweepFinding(),
    cutFinding(),
  ].filter(Boolean);
  return el(
    "ul",
    { class: "findings" },
    found.map(([kind, first, ...rest]) =>
      el(
        "li",
        { class: kind },
        el("span", { class: "mark", "aria-hidden": "true" }, MARKS[kind][0]),
        el(
          "p",
          {},
          el("span", { class: "hidden" }, MARKS[kind][1]),
          el("span", { class: "verdict" }, first),
          " ",
          rest,
        ),
      ),
    ),
  );
}

const CLIENT_KINDS = { ok: "ok", suspect: "warn", limiting: "bad" };
const CLIENT_WORDS = {
  ok: "Client: ok.",
  suspect: "Client: suspect.",
  limiting: "Client: limiting; these figures are partly its own.",
};

function clientFinding() {
  const { client } = SUMMARY;
  if (!client) return null;
  const told = [];
  if (client.reasons?.length)
    told.push(
      client.reasons.flatMap((reason, place) => [place ? "; " : null, foreign(reason)]),
      ". ",
    );
  told.push(
    sentence([
      client.cpu != null && `it used ${percent(client.cpu, 0)} of its core`,
      client.loop_lag && `its loop came around ${ms(client.loop_lag.p99)} late at p99`,
      client.dispatch_delay &&
        `requests were made ${ms(client.dispatch_delay.p99)} after they were due at p99`,
      client.coalesced_share != null &&
        `${percent(client.coalesced_share)} of events came in one read with later ones`,
      sourceWords(client.sources),
    ]),
  );
  const { calibration } = client;
  if (calibration) {
    told.push(
      " ",
      sentence([
        `on a server whose times are known, with ${plural(calibration.streams, "stream")}`,
        `it was off by ${errorWords(calibration)} at p99`,
      ]),
    );
  } else {
    told.push(" It wasn’t calibrated.");
  }
  return [
    CLIENT_KINDS[client.verdict] ?? "warn",
    CLIENT_WORDS[client.verdict] ?? "Client: not judged.",
    ...told,
  ];
}

function errorWords(errors) {
  return [
    errors.time_to_first_token_error &&
      `${ms(errors.time_to_first_token_error.p99)} in the time to first token`,
    errors.inter_chunk_latency_error && `${ms(errors.inter_chunk_latency_error.p99)} in gaps`,
  ]
    .filter(Boolean)
    .join(" and ");
}

function sourceWords(sources) {
  const all = Object.values(sources ?? {}).reduce((a, b) => a + b, 0);
  const words = {
    kernel: "the kernel",
    transport: "the event loop’s transport",
    reader: "the coroutine that read",
  };
  const told = Object.entries(sources ?? {}).map(
    ([source, count]) => `${words[source] ?? source}${count < all ? ` (${whole(count)})` : ""}`,
  );
  return told.length > 0 && `arrivals were stamped by ${told.join(", ")}`;
}

function sentence(parts) {
  const told = parts.filter(Boolean).join(", ");
  return told && `${told[0].toUpperCase()}${told.slice(1)}.`;
}

function failureFinding() {
  const counts = Object.entries(SUMMARY.outcomes).sort((a, b) => b[1] - a[1]);
  const good = SUMMARY.requests.good;
  const all = counts.reduce((sum, [, count]) => sum + count, 0);
  const failed = counts.filter(
    ([name]) => !["finished", "length", "content_filter"].includes(name),
  );
  if (failed.length === 0) return ["ok", `All ${plural(all, "request")} ended well.`];
  const told = failed.map(([name, count]) => `${outcomeWords(name)} (${whole(count)})`).join(", ");
  const share = (all - good) / all;
  return [
    share > 0.01 ? "bad" : "warn",
    `${percent(share)} of ${plural(all, "request")} didn’t end well:`,
    `${told}. They are in no latency.`,
  ];
}

function goodputFinding() {
  const { goodput } = SUMMARY;
  if (!goodput) return null;
  const goals = Object.entries(goodput.goals)
    .map(([name, limit]) => `${metricLabel(name).toLowerCase()} ≤\u00a0${ms(limit)}`)
    .join(", ");
  const met = `${percent(goodput.attainment)} of ${plural(goodput.attempted, "request")} met the goals`;
  const ci = goodput.ci
    ? ` (95 % sure of ${percent(goodput.ci[0])}–${percent(goodput.ci[1])})`
    : "";
  return [
    goodput.met ? "ok" : "bad",
    goodput.met ? "The goals are met." : "The goals are not met.",
    `${met}${ci}, ${percent(goodput.wanted)} are wanted: ${goals}.`,
  ];
}

function metricLabel(name) {
  return (
    [...METRICS, ...FURTHER].find((metric) => metric.name === name)?.label ??
    name.replaceAll("_", " ")
  );
}

const LIST = new Intl.ListFormat("en", { type: "conjunction" });

function certaintyFinding() {
  const found = SUMMARY.metrics.time_to_first_token;
  if (!found?.unsure?.length) return null;
  const keys = found.unsure.map((key) => SHARE_WORDS[key]);
  return [
    "info",
    `There are too few requests to be sure of ${LIST.format(keys)}.`,
    `${whole(found.n)} have a time to first token; such figures are greyed, and dotted in charts.`,
  ];
}

function stallFindings() {
  const stalls = [...(SUMMARY.stalls ?? [])].sort((a, b) => b.seconds - a.seconds);
  if (stalls.length === 0) return [];
  const told = stalls
    .slice(0, 3)
    .map(
      (stall) =>
        `for ${seconds(stall.seconds)} from ${seconds(stall.start)} on, ` +
        `with ${plural(stall.open_streams, "stream")} open`,
    );
  const more = stalls.length > 3 ? `; and ${whole(stalls.length - 3)} shorter ones` : "";
  return [
    [
      "warn",
      stalls.length === 1
        ? "The server stalled once."
        : `The server stalled ${whole(stalls.length)} times.`,
      `Nothing came ${told.join("; ")}${more}.`,
    ],
  ];
}

function steadyFinding() {
  const steady = SUMMARY.steady_state;
  if (!steady) return null;
  const told = [
    `From ${seconds(steady.start)} to ${seconds(steady.end)}, ${plural(steady.requests, "request")}`,
  ];
  const why = steady.why ? [": ", foreign(steady.why)] : [];
  return [
    steady.stable === false ? "warn" : "info",
    steady.stable === false ? "The steady state isn’t steady." : "There is a steady state.",
    ...told,
    ...why,
    ".",
  ];
}

function interruptedFinding() {
  return (
    SUMMARY.interrupted && ["warn", "The run was interrupted.", "These are the figures up to then."]
  );
}

function workersFinding() {
  const all = new Set(SUMMARY.workers.map(({ worker }) => worker));
  const lost = new Set(SUMMARY.workers.filter(({ lost }) => lost).map(({ worker }) => worker));
  return (
    lost.size > 0 && [
      "bad",
      `${plural(lost.size, "worker")} of ${whole(all.size)} got lost.`,
      "What they were to do counts as never made.",
    ]
  );
}

function truthFinding() {
  return (
    SUMMARY.truth && [
      "info",
      "The server told when it sent.",
      `These figures are off by ${errorWords(SUMMARY.truth)} at p99.`,
    ]
  );
}

function sweepFinding() {
  return (
    SWEPT && [
      SUMMARY.sweep.best === null ? "info" : "ok",
      `Figures are of ${stageName(SHOWN_STAGE)}.`,
      sweepWords(),
    ]
  );
}

function cutFinding() {
  return (
    DATA.cut && [
      "warn",
      "The log’s last line is cut.",
      "A run that was killed leaves it so; that request is left out.",
    ]
  );
}
