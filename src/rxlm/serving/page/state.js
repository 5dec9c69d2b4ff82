// The one state of the page. Whoever changes it calls `change`, and the page is drawn from it again.

import { saved } from "./saved.js";

export const state = {
  key: saved.get("key"),
  keyProblem: null, // null, "missing" or "refused"
  offline: false,
  status: null, // GET /v1/rxlm/status

  conversations: [],
  hasMore: false,
  listLoaded: false,

  current: null, // id of the conversation shown; null is a new one
  tree: null, // its turns
  lives: {}, // answers under way, stopped or failed, by conversation
  updates: {}, // when and how long memories were updated, by response
  comparing: null, // {newer, older}: two answers of which the reader may say the better one
  editor: null, // {id, what: "question" | "answer", text}: the one text being edited

  draft: "",
  panel: null, // null, "memory" or "branches"
  panelTurn: null, // the turn that the memory inspector opens at; null is the newest
  drawer: false,
  dialog: null, // {kind, ...}
  notice: null, // {text, problem, action: {label, run}}

  settings: saved.get("settings", {}),
  consent: saved.get("consent", false),
};

let redraw = () => {};

export function whenChanged(draw) {
  redraw = draw;
}

export function change(changes) {
  Object.assign(state, changes);
  redraw();
}

export function setLive(conversation, live) {
  const lives = { ...state.lives };
  if (live) lives[conversation] = live;
  else delete lives[conversation];
  change({ lives });
}

export const liveHere = () => (state.current && state.lives[state.current]) || null;

export const isAnswering = (live = liveHere()) => Boolean(live) && ["waiting", "answering"].includes(live.phase);

export function saveSettings(settings) {
  saved.set("settings", settings);
  change({ settings });
}

let noticeTimer = 0;

// Says something for a while; problems stay until they are closed.
export function notify(text, { problem = false, action = null, seconds = 8 } = {}) {
  clearTimeout(noticeTimer);
  if (!problem) noticeTimer = setTimeout(() => change({ notice: null }), seconds * 1000);
  change({ notice: { text, problem, action } });
}

// Opens a dialog and waits for what it was closed with: undefined when the reader backed out.
export function ask(dialog) {
  return new Promise((resolve) => {
    change({
      dialog: {
        ...dialog,
        close: (answer) => {
          change({ dialog: null });
          resolve(answer);
        },
      },
    });
  });
}
