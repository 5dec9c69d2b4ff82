// The side panel: the memory inspector and the branches. On a narrow page it covers the conversation.

import { html } from "./vendor/htm-preact.js";
import { Branches } from "./branches.js";
import { Inspector } from "./inspector.js";
import { closePanel, openPanel } from "./panel_switch.js";
import { IconButton } from "./parts.js";
import { state } from "./state.js";

function Tab({ name, label }) {
  const isOpen = state.panel === name;
  const keys = (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    event.preventDefault();
    openPanel(name === "memory" ? "branches" : "memory");
  };
  return html`<button type="button" role="tab" id=${`tab-${name}`} aria-selected=${String(isOpen)}
    aria-controls="panel-body"
    tabindex=${isOpen ? 0 : -1} onKeyDown=${keys} onClick=${() => openPanel(name)}>${label}</button>`;
}

export function Panel() {
  if (!state.panel) return null;
  return html`<aside class="panel" aria-label=${state.panel === "memory" ? "Memory inspector" : "Branches"}>
    <div class="panel-head">
      <div role="tablist" class="tabs"><${Tab} name="memory" label="Memory" /><${Tab} name="branches" label="Branches" /></div>
      <${IconButton} icon="close" label="Close the panel" shortcut="Escape" onClick=${closePanel} />
    </div>
    <div class="panel-body" id="panel-body" role="tabpanel" aria-labelledby=${`tab-${state.panel}`}>
      ${state.panel === "memory" ? html`<${Inspector} key=${state.current} />` : html`<${Branches} key=${state.current} />`}
    </div>
  </aside>`;
}
