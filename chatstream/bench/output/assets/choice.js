// What a reader chose to see, and the requests and figures that are in it.

// The stage that the summary's own figures are of.
const SHOWN_STAGE = SWEPT ? SUMMARY.shown : null;

const UNFILTERED = Object.freeze({
  outcome: "all",
  target: null,
  stage: SHOWN_STAGE,
  origin: "created",
  steady: false,
  from: null,
  to: null,
});

function isGood(i) {
  return DATA.outcomes[REQUESTS.outcome[i]].good;
}

function outcomeTest(choice) {
  if (choice === "all") return () => true;
  if (choice === "good") return (outcome) => DATA.outcomes[outcome].good;
  if (choice === "failed") return (outcome) => !DATA.outcomes[outcome].good;
  return (outcome) => DATA.outcomes[outcome].name === choice;
}

// The requests that pass all filters, those that warmed up among them.
function chosenRequests(choice) {
  const passes = outcomeTest(choice.outcome);
  const found = [];
  for (let i = 0; i < COUNT; i += 1) {
    const at = REQUESTS.created[i];
    if (choice.target !== null && REQUESTS.target[i] !== choice.target) continue;
    if (choice.stage !== null && REQUESTS.stage[i] !== choice.stage) continue;
    if (choice.steady && !REQUESTS.steady[i]) continue;
    if (choice.from !== null && at < choice.from) continue;
    if (choice.to !== null && at > choice.to) continue;
    if (passes(REQUESTS.outcome[i])) found.push(i);
  }
  return found;
}

// Of these, whose latencies are figures: a failed stream only if failed ones were asked for.
function measuredRequests(choice, chosen) {
  return chosen.filter((i) => !REQUESTS.warmup[i] && (choice.outcome !== "all" || isGood(i)));
}

function chosenGroups(choice) {
  const passes = outcomeTest(choice.outcome);
  return DATA.groups.filter(
    (group) =>
      (choice.target === null || group.target === choice.target) &&
      (choice.stage === null || group.stage === choice.stage) &&
      (!choice.steady || group.steady === 1) &&
      passes(group.outcome),
  );
}

function measuredGroups(choice) {
  return chosenGroups(choice).filter(
    (group) => !group.warmup && (choice.outcome !== "all" || DATA.outcomes[group.outcome].good),
  );
}

// The part of the summary that has figures of just this choice, if there is one.
function scopeOf(choice) {
  let scope = SUMMARY;
  if (SWEPT && choice.target !== null && SUMMARY.targets.length > 1) {
    scope = choice.stage === SHOWN_STAGE ? SUMMARY.targets[choice.target] : null;
  } else if (SWEPT) {
    scope = choice.stage === null ? null : SUMMARY.stages[choice.stage];
  } else if (choice.target !== null) {
    scope = SUMMARY.targets[choice.target];
  }
  if (!scope) return null;
  return choice.steady ? scope.steady_state : scope;
}

// Whether the summary's figures are those of what is drawn.
function isWhole(choice) {
  return choice.from === null && choice.to === null && ["all", "good"].includes(choice.outcome);
}

function figureOf(scope, metric, origin) {
  if (scope === null || scope.metrics === undefined) return null;
  const from = metric.since === undefined ? "" : ORIGINS[origin].suffix;
  return scope.metrics[metric.name + from] ?? null;
}

// What is compared: stages if all of them were chosen, or else targets.
function seriesOf(choice) {
  if (choice.stage === null && SWEPT) {
    return SUMMARY.stages.map((_, stage) => ({
      name: stageName(stage),
      choice: { ...choice, stage },
    }));
  }
  if (choice.target === null && SUMMARY.targets.length > 1) {
    return SUMMARY.targets.map((_, target) => ({
      name: targetName(target),
      choice: { ...choice, target },
    }));
  }
  return [{ name: "", choice }];
}
