// The tree of a conversation: chains stay flat, forks are indented.

import { html } from "./vendor/htm-preact.js";
import { closePanel, isNarrow } from "./panel_switch.js";
import { plural } from "./parts.js";
import { isAnswering, state } from "./state.js";
import { childrenOf, currentPath, shortened } from "./tree.js";
import { switchTo } from "./turns.js";

function Node({ turn, onPath }) {
  const isHead = turn.id === state.tree.head;
  const text = turn.kind === "forget" ? "A turn was forgotten" : shortened(turn.query, 70);
  const go = async () => {
    await switchTo(turn.id);
    if (isNarrow()) closePanel();
    requestAnimationFrame(() => document.getElementById(turn.id)?.scrollIntoView({ block: "center" }));
  };
  return html`<button type="button" class=${`node${onPath.has(turn.id) ? " on-path" : ""}`}
    aria-current=${isHead ? "true" : undefined}
    title=${turn.query} disabled=${isAnswering()} onClick=${go}>
    <span>${text}</span>${turn.kind === "turn" && html`<small>${shortened(turn.answer, 60)}</small>`}
  </button>`;
}

// The turns from `id` on, up to the next fork, and the branches there.
function Chain({ first, onPath }) {
  const chain = [first];
  let next = childrenOf(state.tree, first.id);
  while (next.length === 1) {
    chain.push(next[0]);
    next = childrenOf(state.tree, next[0].id);
  }
  return html`${chain.map((turn) => html`<li key=${turn.id}><${Node} turn=${turn} onPath=${onPath} /></li>`)}
    ${next.length > 1 && html`<${Fork} key="fork" turns=${next} onPath=${onPath} />`}`;
}

function Fork({ turns, onPath }) {
  return html`<li class="fork"><p class="quiet">${plural(turns.length, "branch", "branches")}</p>
    ${turns.map((turn) => html`<ul key=${turn.id}
      class=${onPath.has(turn.id) ? "on-path" : ""}><${Chain} first=${turn} onPath=${onPath} /></ul>`)}
  </li>`;
}

export function Branches() {
  const { tree } = state;
  if (!tree || tree.turns.length === 0) return html`<p class="quiet">There are no turns yet.</p>`;
  const onPath = new Set(currentPath(tree).map((turn) => turn.id));
  const roots = childrenOf(tree, null);
  return html`<p class="quiet">Choose a turn to go on with its branch. The marked turn is where the conversation goes on.</p>
    <ul class="tree" aria-label="Turns">
      ${roots.length === 1 ? html`<${Chain} first=${roots[0]} onPath=${onPath} />` : html`<${Fork} turns=${roots}
        onPath=${onPath} />`}
    </ul>`;
}
