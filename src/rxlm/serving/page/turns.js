// Turns: sending, stopping, retry, edit, undo, branches, deleting and forgetting.

import { ApiError, inPlainWords, post, remove, request } from "./api.js";
import { attempt, create, loadTree, moveHead, moveToTop, setDraft, setEditor } from "./conversations.js";
import { events } from "./events.js";
import { drafts, savedInTab } from "./saved.js";
import { ask, change, isAnswering, liveHere, notify, setLive, state } from "./state.js";
import { childrenOf, currentPath, descendantsOf, newestLeaf, pathTo, turnOf } from "./tree.js";

const stoppers = new Map(); // AbortControllers by conversation

// Where an answer is under way the branch ends before it.
export function shownPath() {
  const live = liveHere();
  return live ? pathTo(state.tree, live.parent) : currentPath(state.tree);
}

export async function send(text) {
  const query = text.trim();
  if (!query || isAnswering()) return;
  const conversation = state.current ?? (await attempt(() => create(query)));
  if (!conversation) return;
  // The text stays stored as the draft until its answer is complete.
  drafts.set(conversation, query);
  change({ draft: "", comparing: null });
  await answer(conversation, { query, parent: state.tree?.head ?? null });
}

export const retry = (turn) => answer(state.current, { query: turn.query, parent: turn.parent, replaces: turn.id });

// Edit = fork: the new question is asked where the old one was, and the old branch stays.
export function sendEdited(turn, text) {
  setEditor(null);
  if (!text.trim() || isAnswering()) return;
  answer(state.current, { query: text.trim(), parent: turn.parent, edits: turn.id });
}

// Asks again after an error or a stop.
export function sendAgain() {
  const { query, parent, replaces, edits } = liveHere();
  return answer(state.current, { query, parent, replaces, edits });
}

// Puts the question of a stopped or failed answer back into its box.
export function takeBack() {
  const { query, edits } = liveHere();
  setLive(state.current, null);
  if (edits) setEditor({ id: edits, what: "question", text: query });
  else setDraft(query);
}

export function stop() {
  stoppers.get(state.current)?.abort();
}

// asked: {query, parent, replaces?: turn answered anew, edits?: turn whose question was changed}
async function answer(conversation, asked) {
  const tree = state.tree;
  const before = tree.head;
  const live = { ...asked, before, text: "", thought: "", phase: "waiting", error: null, since: Date.now() };
  savedInTab.set(`pending.${conversation}`, {
    ...asked,
    before,
    known: childrenOf(tree, asked.parent).map((turn) => turn.id),
  });
  change({ comparing: null, notice: null });
  setLive(conversation, live);
  const stopper = new AbortController();
  stoppers.set(conversation, stopper);
  try {
    if (before !== asked.parent)
      await post(`/v1/rxlm/conversations/${conversation}/head`, { response_id: asked.parent });
    await receive(conversation, live, stopper.signal);
  } catch (error) {
    await failed(conversation, live, error);
  } finally {
    stoppers.delete(conversation);
    savedInTab.set(`pending.${conversation}`, null);
  }
}

function bodyOf(conversation, live) {
  const { temperature, top_p, max_output_tokens, seed, instructions } = state.settings;
  const body = { model: state.status.model, input: live.query, conversation, stream: true };
  const chosen = {
    temperature,
    top_p,
    max_output_tokens,
    seed,
    instructions: live.parent === null ? instructions : null,
  };
  for (const [name, value] of Object.entries(chosen))
    if (value !== null && value !== undefined && value !== "") body[name] = value;
  return body;
}

async function receive(conversation, live, signal) {
  const show = (changes) => setLive(conversation, Object.assign(live, changes) && { ...live });
  const response = await request("POST", "/v1/responses", bodyOf(conversation, live), signal);
  let shown = 0;
  try {
    for await (const event of events(response.body)) {
      if (event.type === "response.output_text.delta") live.text += event.delta;
      else if (event.type === "response.reasoning_text.delta") live.thought += event.delta;
      else if (event.type === "response.completed" || event.type === "response.incomplete")
        await stored(conversation, live, event.response);
      else if (event.type === "response.failed")
        throw new ApiError(500, event.response.error?.message ?? "no reason given");
      else if (event.type === "error") throw new ApiError(500, event.message);
      else if (event.type === "rxlm:memory.updated") updated(event);
      // Drawn at most thirty times a second, however fast the tokens come.
      if (event.type.endsWith("_text.delta") && performance.now() - shown > 33) {
        shown = performance.now();
        show({ phase: "answering" });
      }
    }
  } catch (error) {
    if (live.phase === "stored") return; // the turn is safe; only the time of the memory's update is missing
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    change({ offline: true });
    throw new ApiError(0, "The connection broke before the answer was complete.");
  }
  if (live.phase !== "stored") throw new ApiError(0, "The server ended the answer before it was complete.");
}

async function stored(conversation, live, response) {
  live.phase = "stored";
  if (drafts.get(conversation) === live.query) drafts.set(conversation, "");
  savedInTab.set(`pending.${conversation}`, null);
  await attempt(() => loadTree(conversation));
  setLive(conversation, null);
  if (state.current === conversation && live.replaces)
    change({ comparing: { newer: response.id, older: live.replaces } });
  moveToTop(conversation);
}

function updated({ response_id, num_bytes, seconds }) {
  change({ updates: { ...state.updates, [response_id]: { num_bytes, seconds, at: Date.now() / 1000 } } });
}

async function failed(conversation, live, error) {
  const stopped = error.name === "AbortError";
  if (!stopped && !(error instanceof ApiError)) console.error(error);
  const retryAt = error.status === 429 ? Date.now() + 1000 * (error.retryAfter ?? 10) : null;
  setLive(conversation, {
    ...live,
    phase: stopped ? "stopped" : "failed",
    error: stopped ? null : inPlainWords(error),
    retryAt,
  });
  // The branch that was shown before is shown again; where the server is gone this is left to the reader.
  if (live.before === live.parent || error.status === 0) return;
  await attempt(() => post(`/v1/rxlm/conversations/${conversation}/head`, { response_id: live.before }));
}

export async function switchTo(id) {
  if (isAnswering()) return;
  setLive(state.current, null);
  change({ comparing: null });
  await attempt(() => moveHead(id === null ? null : newestLeaf(state.tree, id)));
}

export async function undo() {
  const turn = turnOf(state.tree, state.tree?.head);
  if (!turn || isAnswering()) return;
  setLive(state.current, null);
  change({ comparing: null });
  if (!(await attempt(() => moveHead(turn.parent)))) return;
  notify(turn.kind === "forget" ? "The turn is remembered again." : "The last turn is undone. It stays as a branch.", {
    action: { label: "Redo", run: () => attempt(() => moveHead(turn.id)) },
  });
}

export async function eraseTurn(turn) {
  const later = descendantsOf(state.tree, turn.id).length;
  const also =
    later === 1 ? " and the turn after it" : later ? ` and the ${later} turns after it, in all branches` : "";
  const why = later ? " Later memories hold what was said here, so they go, too." : "";
  const sure = await ask({
    kind: "confirm",
    title: later ? `Delete ${later + 1} turns?` : "Delete this turn?",
    text: `This turn${also} will be erased from the server.${why} This cannot be undone.`,
    action: "Delete",
  });
  if (!sure) return;
  const query = later ? "?descendants=true" : "";
  await attempt(async () => {
    await remove(`/v1/responses/${turn.id}${query}`);
    setLive(state.current, null);
    change({ comparing: null, panelTurn: null });
    await loadTree();
  });
}

export async function forget(turn) {
  if (isAnswering()) return;
  await attempt(async () => {
    await post(`/v1/rxlm/responses/${state.tree.head}/forget`, { turn: turn.id });
    change({ panelTurn: null });
    await loadTree();
    notify("The memory no longer keeps this turn. Its text stays in the transcript.", {
      action: { label: "Undo", run: undo },
    });
  });
}
