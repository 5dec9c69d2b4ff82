// The side panel: the memory inspector and the branches. On a narrow page it covers the conversation.

import { html } from "./vendor/htm-preact.js";
import { Branches } from "./branches.js";
import { Inspector } from "./inspector.js";
import { IconButton } from "./parts.js";
import { change, state } from "./state.js";

let opener = null;

// Opens a tab with the focus on it, or closes it and gives the focus back.
export function togglePanel(panel) {
  const closing = state.panel === panel;
  if (!state.panel) opener = document.activeElement;
  change({ panel: closing ? null : panel, panelTurn: null });
  requestAnimationFrame(() => {
    if (!closing) document.getElementById(`tab-${panel}`)?.focus();
    else if (opener?.isConnected && opener !== document.body) opener.focus();
    else document.getElementById("box")?.focus();
  });
}

function Tab({ name, label }) {
  const isOpen = state.panel === name;
  const keys = (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    event.preventDefault();
    togglePanel(isOpen && name === "memory" ? "branches" : "memory");
  };
  return html`<button type="button" role="tab" id=${`tab-${name}`} aria-selected=${String(isOpen)} aria-controls="panel-body"
    tabindex=${isOpen ? 0 : -1} onKeyDown=${keys} onClick=${() => change({ panel: name })}>${label}</button>`;
}

export function Panel() {
  if (!state.panel) return null;
  return html`<aside class="panel" aria-label=${state.panel === "memory" ? "Memory inspector" : "Branches"}>
    <div class="panel-head">
      <div role="tablist" class="tabs"><${Tab} name="memory" label="Memory" /><${Tab} name="branches" label="Branches" /></div>
      <${IconButton} icon="close" label="Close the panel" shortcut="Escape" onClick=${() => togglePanel(state.panel)} />
    </div>
    <div class="panel-body" id="panel-body" role="tabpanel" aria-labelledby=${`tab-${state.panel}`}>
      ${state.panel === "memory" ? html`<${Inspector} key=${state.current} />` : html`<${Branches} key=${state.current} />`}
    </div>
  </aside>`;
}
