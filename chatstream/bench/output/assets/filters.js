// The form by which a reader chooses.

const choice = { ...UNFILTERED };

function filters() {
  const options = [
    ["all", "all"],
    ["good", "ended well"],
    ["failed", "failed"],
  ];
  const outcomes = DATA.outcomes.map(({ name }) => [name, outcomeWords(name)]);
  return el(
    "details",
    { class: "filters", open: !NARROW.matches },
    el("summary", {}, "Filters: ", el("span", { id: "passing", role: "status" })),
    el(
      "form",
      { id: "filters", "aria-label": "Filters of the figures and charts" },
      selecting("outcome", "Outcome", [...options, ...outcomes]),
      SUMMARY.targets.length > 1 &&
        selecting("target", "Target", [
          ["", "all"],
          ...SUMMARY.targets.map((_, place) => [place, targetName(place)]),
        ]),
      SWEPT &&
        selecting("stage", "Load", [
          ["", "all"],
          ...SUMMARY.stages.map((_, place) => [place, stageName(place)]),
        ]),
      segmented(
        "origin",
        "Latencies from",
        Object.entries(ORIGINS).map(([value, { label }]) => [value, label]),
      ),
      REQUESTS.steady.includes(1) &&
        el(
          "label",
          { class: "field" },
          el("input", { type: "checkbox", name: "steady" }),
          "Steady state only",
        ),
      el(
        "fieldset",
        { class: "window" },
        el("legend", {}, "Made from"),
        timeInput("from", "from, seconds"),
        "to",
        timeInput("to", "to, seconds"),
        "s",
      ),
      el("button", { type: "reset" }, "Reset"),
    ),
  );
}

function selecting(name, label, options) {
  return el(
    "label",
    { class: "field" },
    label,
    el(
      "select",
      { name },
      options.map(([value, text]) => el("option", { value }, inert(text))),
    ),
  );
}

function segmented(name, legend, options, attributes = {}) {
  return el(
    "fieldset",
    { class: `choices ${name}`, ...attributes },
    el("legend", {}, legend),
    options.map(([value, text]) =>
      el("label", {}, el("input", { type: "radio", name, value }), el("span", {}, text)),
    ),
  );
}

function timeInput(name, label) {
  return el("input", {
    type: "number",
    name,
    "aria-label": label,
    min: "0",
    step: "any",
    placeholder: name === "from" ? "0" : number(RUN_END),
  });
}

function form() {
  return document.getElementById("filters");
}

function fillForm() {
  const { outcome, target, stage, origin, steady, from, to } = form().elements;
  outcome.value = choice.outcome;
  origin.value = choice.origin;
  if (target) target.value = choice.target ?? "";
  if (stage) stage.value = choice.stage ?? "";
  if (steady) steady.checked = choice.steady;
  [from.value, to.value] = [choice.from ?? "", choice.to ?? ""];
}

function readForm() {
  const { outcome, target, stage, origin, steady, from, to } = form().elements;
  const numeric = (text) => (text === "" || Number.isNaN(Number(text)) ? null : Number(text));
  Object.assign(choice, {
    outcome: outcome.value,
    origin: origin.value,
    from: numeric(from.value),
    to: numeric(to.value),
    target: target ? numeric(target.value) : null,
    stage: stage ? numeric(stage.value) : null,
    steady: steady ? steady.checked : false,
  });
}

function choose(changes) {
  Object.assign(choice, changes);
  fillForm();
  update();
}
