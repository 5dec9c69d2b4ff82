// Conversations: the list, opening, renaming, deleting, export and import.

import { get, inPlainWords, post, remove } from "./api.js";
import { drafts, saved, savedInTab } from "./saved.js";
import { ask, change, notify, state } from "./state.js";
import { shortened, titleOf } from "./tree.js";

const PAGE = 30;

export function complain(error) {
  if (error.status === 0 || error.status === 401) return; // the banner and the key dialog say it
  notify(inPlainWords(error), { problem: true });
}

// Runs what the reader asked for; an error becomes a notice.
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    complain(error);
    return undefined;
  }
}

export async function loadList({ more = false } = {}) {
  const last = state.conversations.at(-1);
  const after = more && last ? `&after=${encodeURIComponent(last.id)}` : "";
  const page = await get(`/v1/rxlm/conversations?limit=${PAGE}${after}`);
  const known = new Set(more ? state.conversations.map((conversation) => conversation.id) : []);
  const added = page.data.filter((conversation) => !known.has(conversation.id));
  change({
    conversations: more ? [...state.conversations, ...added] : added,
    hasMore: page.has_more,
    listLoaded: true,
  });
}

export async function loadTree(id = state.current) {
  const tree = await get(`/v1/rxlm/conversations/${id}/tree`);
  if (state.current === id) change({ tree });
  return tree;
}

// The list has the conversation that was used last at the top.
export function moveToTop(id) {
  const found = state.conversations.find((conversation) => conversation.id === id);
  if (!found) return;
  const others = state.conversations.filter((conversation) => conversation !== found);
  change({ conversations: [{ ...found, updated_at: Date.now() / 1000 }, ...others] });
}

function setFragment(id) {
  const address = id ? `#${id}` : location.pathname;
  if (location.hash.slice(1) !== (id ?? "")) history.pushState(null, "", address);
}

// Shows a conversation; null shows an empty one, which the server learns of with its first question.
export async function open(id) {
  setFragment(id);
  change({
    current: id,
    tree: null,
    comparing: null,
    drawer: false,
    panelTurn: null,
    draft: drafts.get(id),
    editor: saved.get(`editor.${id}`),
  });
  if (!id) return;
  try {
    await loadTree(id);
    await restore(id);
  } catch (error) {
    if (error.status !== 404) return complain(error);
    notify("This conversation does not exist any more.", { problem: true });
    await open(null);
  }
}

// An answer under way when the page was closed is lost; its question comes back, and the branch it started from.
async function restore(id) {
  const pending = savedInTab.get(`pending.${id}`);
  if (!pending || state.lives[id]) return;
  savedInTab.set(`pending.${id}`, null);
  const tree = state.tree;
  const stored = tree.turns.some(
    (turn) => turn.parent === pending.parent && turn.query === pending.query && !pending.known.includes(turn.id),
  );
  if (stored) return drafts.get(id) === pending.query ? setDraft("") : undefined;
  if (pending.before !== tree.head && pending.before) await moveHead(pending.before);
  if (pending.edits) return setEditor({ id: pending.edits, what: "question", text: pending.query });
  if (!pending.replaces && !state.draft.includes(pending.query))
    setDraft([pending.query, state.draft].filter(Boolean).join("\n"));
}

export async function moveHead(response) {
  const id = state.current;
  await post(`/v1/rxlm/conversations/${id}/head`, { response_id: response });
  return loadTree(id);
}

export function setDraft(draft) {
  drafts.set(state.current, draft);
  change({ draft });
}

export function setEditor(editor) {
  saved.set(`editor.${state.current}`, editor);
  change({ editor });
}

export async function create(question) {
  const made = await post("/v1/conversations", { metadata: { title: shortened(question, 60) } });
  drafts.set(null, "");
  setFragment(made.id);
  const listed = { turns: 0, head: null, updated_at: made.created_at, ...made };
  const tree = { id: made.id, metadata: made.metadata, head: null, instructions: null, turns: [] };
  change({ current: made.id, tree, conversations: [listed, ...state.conversations] });
  return made.id;
}

export async function rename(conversation) {
  const title = await ask({
    kind: "text",
    title: "Rename the conversation",
    label: "Title",
    value: titleOf(conversation),
    action: "Rename",
  });
  if (!title?.trim()) return;
  const metadata = { ...conversation.metadata, title: title.trim() };
  await post(`/v1/conversations/${conversation.id}`, { metadata });
  const conversations = state.conversations.map((other) =>
    other.id === conversation.id ? { ...other, metadata } : other,
  );
  change({ conversations, tree: state.tree?.id === conversation.id ? { ...state.tree, metadata } : state.tree });
}

export async function erase(conversation) {
  const sure = await ask({
    kind: "confirm",
    title: "Delete the conversation?",
    text: `“${titleOf(conversation)}”, all its turns and its memories are erased from the server. This cannot be undone.`,
    action: "Delete",
  });
  if (!sure) return;
  await remove(`/v1/conversations/${conversation.id}`);
  for (const name of ["draft", "editor"]) saved.set(`${name}.${conversation.id}`, null);
  change({ conversations: state.conversations.filter((other) => other.id !== conversation.id) });
  if (state.current === conversation.id) await open(null);
}

export async function exportOne(conversation) {
  const exported = await get(`/v1/rxlm/conversations/${conversation.id}/export`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(exported, null, 1)], { type: "application/json" }));
  link.download = `${
    titleOf(conversation)
      .replace(/[^\p{L}\p{N}]+/gu, "-")
      .slice(0, 40) || "conversation"
  }.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export async function importOne(file) {
  let exported;
  try {
    exported = JSON.parse(await file.text());
  } catch {
    notify(`${file.name} is not JSON. Choose a file that this page exported.`, { problem: true });
    return;
  }
  const made = await post("/v1/rxlm/conversations/import", exported);
  await loadList();
  await open(made.id);
}
