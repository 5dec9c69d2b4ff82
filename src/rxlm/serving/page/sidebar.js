// The list of conversations, and what concerns all of them.

import { html, useRef } from "./vendor/htm-preact.js";
import { attempt, erase, exportOne, importOne, loadList, open, rename } from "./conversations.js";
import { focusBox } from "./composer.js";
import { Icon, IconButton, Menu } from "./parts.js";
import { ask, change, isAnswering, state } from "./state.js";
import { titleOf } from "./tree.js";
import { chooseTheme, isDark } from "./theme_switch.js";

const DAY = 86_400;

function groupOf(conversation) {
  const midnight = new Date().setHours(0, 0, 0, 0) / 1000;
  const at = conversation.updated_at ?? conversation.created_at;
  if (at >= midnight) return "Today";
  return at >= midnight - 6 * DAY ? "Last seven days" : "Older";
}

export async function startNew() {
  await open(null);
  focusBox();
}

function Entry({ conversation }) {
  const title = titleOf(conversation);
  const isCurrent = conversation.id === state.current;
  const answering = isAnswering(state.lives[conversation.id]);
  return html`<li class=${isCurrent ? "entry current" : "entry"}>
    <button type="button" class="entry-title" title=${title} aria-current=${isCurrent ? "page" : undefined}
      onClick=${() => attempt(() => open(conversation.id))}>${title}${answering && html`<span class="dot"
      title="answering" />`}</button>
    <${Menu} label=${`Actions for ${title}`} items=${[
      { label: "Rename", run: () => attempt(() => rename(conversation)) },
      { label: "Export", run: () => attempt(() => exportOne(conversation)) },
      { label: "Delete", run: () => attempt(() => erase(conversation)), danger: true },
    ]} />
  </li>`;
}

function List() {
  const groups = new Map();
  for (const conversation of state.conversations) {
    const group = groupOf(conversation);
    groups.set(group, [...(groups.get(group) ?? []), conversation]);
  }
  return html`<div class="entries">
    ${[...groups].map(
      ([name, conversations]) => html`<section key=${name}>
      <h2>${name}</h2>
      <ul>${conversations.map((conversation) => html`<${Entry} key=${conversation.id} conversation=${conversation} />`)}</ul>
    </section>`,
    )}
    ${state.listLoaded && state.conversations.length === 0 && html`<p class="quiet">No conversations yet.</p>`}
    ${state.hasMore && html`<button type="button" class="plain wide"
      onClick=${() => attempt(() => loadList({ more: true }))}>Load more</button>`}
  </div>`;
}

export function Sidebar() {
  const file = useRef();
  const dark = isDark();
  return html`<nav class="sidebar" id="sidebar" aria-label="Conversations">
    <div class="brand"><img src="/static/icon.svg" alt="" width="24" height="24" /><strong>rxlm</strong>
      <${IconButton} icon="close" label="Close the list" class="icon-button drawer-only"
        onClick=${() => change({ drawer: false })} /></div>
    <button type="button" class="new" onClick=${startNew}><${Icon} name="add" />New conversation</button>
    <${List} />
    <div class="tools">
      <input type="file" accept="application/json,.json" class="hidden" ref=${file} tabindex="-1"
        aria-label="File of a conversation"
        onChange=${(event) => {
          const [chosen] = event.target.files;
          event.target.value = "";
          if (chosen) attempt(() => importOne(chosen));
        }} />
      <${IconButton} icon="upload" label="Import a conversation" onClick=${() => file.current.click()} />
      <${IconButton} icon=${dark ? "sun" : "moon"} label=${dark ? "Light colours" : "Dark colours"}
        onClick=${() => chooseTheme(dark ? "light" : "dark")} />
      <${IconButton} icon="settings" label="Settings" shortcut="S" onClick=${() => ask({ kind: "settings" })} />
      <${IconButton} icon="help" label="Keyboard shortcuts" shortcut="?" onClick=${() => ask({ kind: "help" })} />
    </div>
  </nav>`;
}
