// Opening and closing the side panel, with the focus going there and back.

import { change, state } from "./state.js";

let opener = null;

// turn: where the memory inspector opens; null is the newest.
export function openPanel(panel, turn = null) {
  if (!state.panel) opener = document.activeElement;
  change({ panel, panelTurn: turn });
  requestAnimationFrame(() => document.getElementById(`tab-${panel}`)?.focus());
}

export function closePanel() {
  change({ panel: null, panelTurn: null });
  requestAnimationFrame(() => {
    const back = opener?.isConnected ? opener : document.getElementById("box");
    back?.focus();
  });
}

export const togglePanel = (panel) => (state.panel === panel ? closePanel() : openPanel(panel));

// Below 800 px panel and list cover the conversation, which then takes no focus.
const narrow = matchMedia("(max-width: 799px)");
narrow.addEventListener("change", () => change({}));

export const isNarrow = () => narrow.matches;
