// Shows a build as it goes. The page is complete without this: it can be reloaded by hand.
"use strict";

const box = document.getElementById("build");
const state = document.getElementById("state");
const bar = document.getElementById("bar");
const lines = document.getElementById("lines");

const phases = {
  toolchain: "Fetching the Go toolchain",
  modules: "Fetching modules",
  compile: "Compiling",
  voters: "Waiting for the other voters",
};

function sentence(update) {
  if (!update.Phase) {
    return update.QueuePosition > 0
      ? "Builds before this one: " + update.QueuePosition
      : "Next to be built";
  }
  const phase = phases[update.Phase] || update.Phase;
  if (update.Phase === "voters") {
    return phase + ((update.Voters || []).length ? ": " + update.Voters.join(", ") : "");
  }
  if (update.Total) {
    return phase + ": " + Math.floor((100 * update.Done) / update.Total) + " %";
  }
  return phase;
}

// Returns whether the build has ended.
function show(update) {
  if (update.Kind === "Success") {
    location.replace(box.dataset.path + encodeURIComponent(update.Sum) + "/");
    return true;
  }
  if (update.Kind === "TempFailed" || update.Kind === "PermFailed") {
    location.reload();
    return true;
  }
  state.textContent = sentence(update);
  if (update.Total) {
    bar.max = update.Total;
    bar.value = update.Done;
  } else {
    bar.removeAttribute("value");
  }
  bar.hidden = false;
  if (update.Lines && update.Lines.length) {
    lines.textContent = update.Lines.join("\n");
    lines.hidden = false;
  }
  return false;
}

if (box.dataset.live === "true") {
  const source = new EventSource(box.dataset.path + "events");
  source.addEventListener("update", (event) => {
    if (show(JSON.parse(event.data))) {
      source.close();
    }
  });
  source.onerror = () => {
    state.textContent = source.readyState === EventSource.CLOSED
      ? "The node does not take this build right now. Load the page again to try once more."
      : "The connection was lost; trying again.";
  };
}
