// Shortcuts: single letters outside of text boxes, the same letters with a modifier everywhere.

import { setEditor } from "./conversations.js";
import { focusBox } from "./composer.js";
import { closePanel, togglePanel } from "./panel_switch.js";
import { startNew } from "./sidebar.js";
import { ask, change, isAnswering, state } from "./state.js";
import { childrenOf } from "./tree.js";
import { startEditing } from "./turn_view.js";
import { retry, shownPath, stop, switchTo, undo } from "./turns.js";

const lastTurn = () => shownPath().findLast((turn) => turn.kind === "turn");

function nextBranch(step) {
  const fork = shownPath().findLast((turn) => childrenOf(state.tree, turn.parent).length > 1);
  if (!fork) return;
  const siblings = childrenOf(state.tree, fork.parent);
  const next = siblings[siblings.indexOf(fork) + step];
  if (next) switchTo(next.id);
}

function withLastTurn(action) {
  const turn = lastTurn();
  if (turn && !isAnswering()) action(turn);
}

// key: [what it does, action]; the help dialog lists them in this order.
export const SHORTCUTS = {
  n: ["New conversation", startNew],
  "/": ["Go to the message box", focusBox],
  r: ["Retry the last answer", () => withLastTurn(retry)],
  e: ["Edit the last question", () => withLastTurn((turn) => startEditing(turn, "question"))],
  u: ["Undo the last turn", undo],
  "[": ["Previous branch at the last fork", () => nextBranch(-1)],
  "]": ["Next branch at the last fork", () => nextBranch(1)],
  m: ["Memory inspector", () => togglePanel("memory")],
  b: ["Branches", () => togglePanel("branches")],
  c: ["List of conversations", focusList],
  s: ["Settings", () => ask({ kind: "settings" })],
  "?": ["This list", () => ask({ kind: "help" })],
};

function focusList() {
  change({ drawer: true });
  requestAnimationFrame(() => document.querySelector(".entry.current button, .sidebar .new")?.focus());
}

function escape() {
  if (isAnswering()) stop();
  else if (state.editor) setEditor(null);
  else if (state.panel) closePanel();
  else if (state.drawer) change({ drawer: false });
  else document.activeElement?.blur();
}

// On a Mac, Option alone writes accents.
const IS_MAC = /^(Mac|iP)/.test(navigator.platform);
export const MODIFIER = IS_MAC ? "Ctrl Option" : "Alt";

const isText = (element) => element?.matches?.("textarea, input, select");

addEventListener("keydown", (event) => {
  if (
    state.dialog ||
    state.keyProblem ||
    event.metaKey ||
    event.isComposing ||
    event.ctrlKey !== (IS_MAC && event.altKey)
  )
    return undefined;
  if (event.key === "Escape") {
    event.preventDefault();
    return escape();
  }
  if (!event.altKey && (isText(event.target) || state.settings.noLetters)) return undefined;
  // With a modifier some keyboards give another letter: then the place of the key tells.
  const key =
    event.altKey && event.code.startsWith("Key") ? event.code.slice(3).toLowerCase() : event.key.toLowerCase();
  const shortcut = SHORTCUTS[key];
  if (!shortcut) return undefined;
  event.preventDefault();
  return shortcut[1]();
});
