// Starting, and finding the server again when it was gone.

import { get } from "./api.js";
import { attempt, loadList, loadTree, open } from "./conversations.js";
import { saved } from "./saved.js";
import { change, state } from "./state.js";

// The printed address carries the key: it moves from the fragment into the browser's storage.
function takeKey() {
  const found = /^#key=(.+)$/.exec(location.hash);
  if (!found) return;
  history.replaceState(null, "", location.pathname);
  useKey(decodeURIComponent(found[1]));
}

export function useKey(key) {
  saved.set("key", key);
  change({ key, keyProblem: null });
}

export async function start() {
  takeKey();
  if (!state.key) return change({ keyProblem: "missing" });
  await attempt(async () => {
    change({ status: await get("/v1/rxlm/status"), offline: false });
    await Promise.all([loadList(), open(location.hash.slice(1) || null)]);
  });
}

async function isHealthy() {
  try {
    return (await fetch("/health")).ok;
  } catch {
    return false;
  }
}

// Called at every drawing; asks after 1, 2, 4, ... and at last every 10 seconds.
let isWaiting = false;
export async function watchServer() {
  if (!state.offline || isWaiting) return;
  isWaiting = true;
  for (let seconds = 1; state.offline; seconds = Math.min(10, 2 * seconds)) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    if (!(await isHealthy())) continue;
    change({ offline: false });
    if (!state.status) await start();
    else await attempt(() => Promise.all([loadList(), state.current && loadTree()]));
  }
  isWaiting = false;
}

addEventListener("hashchange", () => {
  if (location.hash.startsWith("#key=")) start();
});
addEventListener("popstate", () => {
  const id = location.hash.slice(1) || null;
  if (!location.hash.startsWith("#key=") && id !== state.current) attempt(() => open(id));
});
