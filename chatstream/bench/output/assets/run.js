// How the run was made, and what others say of it: server, tools, formulas.

function runSection() {
  return el(
    "section",
    { "aria-labelledby": "run" },
    el("h2", { id: "run" }, "The run"),
    el(
      "div",
      { class: "panels" },
      targetsPanel(),
      serverPanel(),
      definitionsPanel(),
      workersPanel(),
      planPanel(),
    ),
  );
}

function targetsPanel() {
  if (SUMMARY.targets.length < 2) return null;
  const cell = (target, name, key) => milliseconds(target.metrics?.[name]?.[key]);
  return wide(
    "Targets",
    scrolling(
      "Targets",
      table({
        caption: "Latencies in ms",
        head: [
          "target",
          "model",
          "ended well",
          "TTFT p50",
          "TTFT p99",
          "ICL p50",
          "ICL p99",
          "answers/s",
        ],
        rows: SUMMARY.targets.map((target, place) => [
          foreign(targetName(place)),
          foreign(target.model ?? "–"),
          `${whole(target.requests.good)} of ${whole(target.requests.made - target.requests.warmup)}`,
          cell(target, "time_to_first_token", "p50"),
          cell(target, "time_to_first_token", "p99"),
          cell(target, "inter_chunk_latency", "p50"),
          cell(target, "inter_chunk_latency", "p99"),
          number(target.throughput?.requests_per_second?.value),
        ]),
      }),
    ),
  );
}

// The server's own figures, and how they were told; of several models together.
function serverPanel() {
  const { server } = SUMMARY;
  if (!server) return null;
  const found = Object.entries(server.metrics).filter(([, each]) => each !== null);
  const timed = found.filter(([, each]) => each.unit === "s");
  const counted = found.filter(([, each]) => each.unit !== "s");
  const guess = (each, key) => {
    const bounds = each.bounds?.[key];
    return el(
      "span",
      {
        title: bounds
          ? `between ${milliseconds(bounds[0])} and ${bounds[1] === null ? "any" : milliseconds(bounds[1])} ms`
          : null,
      },
      milliseconds(each[key]),
    );
  };
  return wide(
    "The server’s own figures",
    timed.length > 0 &&
      scrolling(
        "The server’s own latencies",
        table({
          caption: "Latencies in ms. Means are exact, percentiles guesses inside a bucket.",
          head: ["metric", "n", "mean", "p50", "p90", "p99", "told by"],
          rows: timed.map(([name, each]) => [
            foreign(SERVER_WORDS[name] ?? name),
            whole(each.n),
            milliseconds(each.mean),
            guess(each, "p50"),
            guess(each, "p90"),
            guess(each, "p99"),
            foreign(each.source),
          ]),
        }),
      ),
    el(
      "div",
      { class: "columns" },
      facts(
        counted.map(([name, each]) => [
          name.replaceAll("_", " "),
          each.kind === "gauge"
            ? `${amount(each.before, each.unit)} before, ${amount(each.after, each.unit)} after`
            : amount(each.value, each.unit),
        ]),
      ),
    ),
    server.notes.map((note) => el("p", { class: "note" }, foreign(note))),
  );
}

const SERVER_WORDS = {
  queue_time: "In the queue",
  prefill_time: "Prefill",
  decode_time: "Decode",
  time_to_first_token: "Time to first token",
  time_per_prompt_token: "Time per prompt token",
  time_per_output_token: "Time per output token",
  e2e: "Whole request",
};

function amount(value, unit) {
  if (value === null) return "–";
  return unit === "share" ? percent(value) : `${whole(value)} ${unit}`;
}

function wide(title, ...inside) {
  return el("div", { class: "wide" }, el("h3", {}, title), inside);
}

function workersPanel() {
  const workers = SUMMARY.workers.filter((worker) => worker.stage === SUMMARY.shown);
  if (workers.length === 0) return null;
  return panel(
    "Workers",
    table({
      caption: "Who made the requests",
      head: ["worker", "host", "requests", "outcome"],
      rows: workers.map((worker) => [
        String(worker.worker),
        foreign(worker.host ?? ""),
        whole(worker.requests),
        worker.lost
          ? el("span", {}, "lost", worker.error ? [": ", foreign(worker.error)] : null)
          : "done",
      ]),
    }),
  );
}

function planPanel() {
  const made = {
    started: SUMMARY.started,
    chatstream: SUMMARY.chatstream,
    python: SUMMARY.python,
    platform: SUMMARY.platform,
    cores: SUMMARY.cores,
    schema: SUMMARY.schema,
    ...SUMMARY.plan,
  };
  return wide("Plan", el("div", { class: "columns" }, facts(flattened(made))));
}

// Any JSON as names and values, a name being the path; what is null or empty is left out.
function flattened(value, path = []) {
  if (value === null || value === "") return [];
  if (typeof value !== "object")
    return [[path.map((name) => name.replaceAll("_", " ")).join(" · "), String(value)]];
  if (Array.isArray(value) && value.every((each) => typeof each !== "object"))
    return flattened(value.slice(0, 50).join(", "), path);
  return Object.entries(value).flatMap(([name, each]) =>
    flattened(each, Array.isArray(value) && value.length === 1 ? path : [...path, name]),
  );
}

// The run under other tools' formulas, each number with the formula it used.
function definitionsPanel() {
  const views = Object.entries(SUMMARY.definitions ?? {});
  if (views.length === 0) return null;
  return wide(
    "By other tools’ formulas",
    views.map(([name, found]) =>
      el(
        "details",
        { class: "more" },
        el("summary", {}, foreign(`${name}, as of ${found.version.slice(0, 16)}`)),
        el(
          "p",
          { class: "soft" },
          "Requests: ",
          foreign(found.requests),
          "; percentiles: ",
          foreign(found.percentiles),
          ".",
        ),
        scrolling(
          name,
          table({
            caption: "Latencies in ms",
            head: ["metric", "n", "mean", "p50", "p90", "p99", "formula"],
            rows: Object.entries(found.metrics).map(([metric, each]) => [
              foreign(metric),
              whole(each.n),
              figure(each.mean ?? each.value, each.unit),
              ...["p50", "p90", "p99"].map((key) => figure(each[key], each.unit)),
              el(
                "span",
                {},
                foreign(each.formula),
                each.note ? el("small", {}, foreign(each.note)) : null,
              ),
            ]),
          }),
        ),
      ),
    ),
  );
}

function formulasSection() {
  const rows = [...METRICS, ...FURTHER];
  const origins = Object.values(ORIGINS)
    .filter(({ suffix }) => suffix)
    .map(({ suffix, words }) => `…${suffix}: ${words}`)
    .join("; ");
  return el(
    "section",
    { "aria-labelledby": "formulas" },
    el("h2", { id: "formulas" }, "Formulas"),
    el(
      "p",
      { class: "soft" },
      `Only requests that ended well and didn’t warm up have latencies. In summary.json, ${origins}.`,
    ),
    scrolling(
      "Formulas",
      el(
        "table",
        {},
        el("caption", {}, "How each figure is computed"),
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            ["metric", "in summary.json", "formula", "also called"].map((text) =>
              el("th", { scope: "col", class: "words" }, text),
            ),
          ),
        ),
        el(
          "tbody",
          {},
          rows.map((metric) =>
            el(
              "tr",
              { id: `formula-${metric.name}`, tabindex: "-1" },
              el("th", { scope: "row" }, metric.label),
              el("td", { class: "words" }, el("code", {}, metric.name)),
              el("td", { class: "words" }, metric.formula),
              el("td", { class: "words" }, metric.others),
            ),
          ),
        ),
      ),
    ),
    el(
      "p",
      { class: "note" },
      "Percentiles are linear between neighbours, as numpy’s. Intervals are 95 %. A percentile is " +
        "marked as not sure where there are fewer requests than MLPerf’s early-stopping rule asks " +
        "for: 662 for p99, 64 for p90. Percentiles of gaps in charts are right within 2.3 %, " +
        "those in the summary’s figures exact.",
    ),
  );
}
