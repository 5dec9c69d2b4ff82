// The page: puts the views together and draws them whenever the state changes.

import { html, render, useState } from "./vendor/htm-preact.js";
import { Chat } from "./chat.js";
import { Composer, focusBox, returnToBox } from "./composer.js";
import { start, watchServer } from "./connection.js";
import { Dialogs } from "./dialogs.js";
import "./keyboard.js";
import { Panel } from "./panel.js";
import { isNarrow, togglePanel } from "./panel_switch.js";
import { bytes, Icon, IconButton } from "./parts.js";
import { Sidebar } from "./sidebar.js";
import { change, state, whenChanged } from "./state.js";
import { currentPath, titleOf } from "./tree.js";

function memorySize() {
  const last = currentPath(state.tree).at(-1);
  return bytes(state.updates[last?.id]?.num_bytes ?? state.status?.memory_bytes);
}

function Header() {
  const title = state.current
    ? titleOf(state.tree ?? state.conversations.find(({ id }) => id === state.current))
    : "New conversation";
  const tab = (
    name,
    icon,
    label,
    text,
  ) => html`<button type="button" class="plain with-icon" aria-expanded=${String(state.panel === name)}
    aria-label=${label} title=${`${label} (${name[0].toUpperCase()})`}
    onClick=${() => togglePanel(name)}><${Icon} name=${icon} /><span>${text}</span></button>`;
  return html`<header class="header">
    <${IconButton} icon="menu" label="Conversations" class="icon-button drawer-only"
      aria-expanded=${String(state.drawer)} aria-controls="sidebar"
      onClick=${() => change({ drawer: !state.drawer })} />
    <h1 title=${title}>${title}</h1>
    ${state.status && html`<span class="model">${state.status.model}</span>`}
    ${tab("branches", "branches", "Branches", "Branches")}
    ${tab("memory", "memory", "Memory inspector", `Memory ${memorySize()}`)}
  </header>`;
}

function Notices() {
  const { notice, offline } = state;
  return html`<div class="notices" aria-live="polite">
    ${
      offline &&
      html`<div class="notice problem" role="alert"><p>The server does not answer. Your texts are kept, and the page tries again by itself.
      If it stays away, start <code>rxlm serve</code> again.</p></div>`
    }
    ${
      notice &&
      html`<div class=${`notice${notice.problem ? " problem" : ""}`} role=${notice.problem ? "alert" : "status"}>
      <p>${notice.text}</p>
      ${
        notice.action &&
        html`<button type="button" class="plain" onClick=${() => {
          change({ notice: null });
          notice.action.run();
        }}>${notice.action.label}</button>`
      }
      <${IconButton} icon="close" label="Close the message" onClick=${() => change({ notice: null })} />
    </div>`
    }
  </div>`;
}

function App() {
  const [, draw] = useState(0);
  whenChanged(() => draw((count) => count + 1));
  watchServer();
  const isCovered = isNarrow() && Boolean(state.drawer || state.panel);
  const title = state.current && state.tree ? `${titleOf(state.tree)} - rxlm` : "rxlm";
  if (document.title !== title) document.title = title;
  return html`<div class=${`page${state.drawer ? " drawer-open" : ""}${state.panel ? " panel-open" : ""}`}>
    <a class="skip" href="#box" onClick=${(event) => {
      event.preventDefault();
      focusBox();
    }}>Go to the message box</a>
    <${Sidebar} />
    <div class="shade" onClick=${() => change({ drawer: false })} />
    <main class="main" inert=${isCovered}>
      <${Header} />
      <${Chat} />
      ${!isCovered && html`<${Notices} />`}
      <${Composer} />
    </main>
    <${Panel} />
    ${isCovered && html`<div class="over"><${Notices} /></div>`}
    <${Dialogs} />
  </div>`;
}

render(html`<${App} />`, document.getElementById("app"));
start().then(returnToBox);
