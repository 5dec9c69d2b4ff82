// What the browser keeps: the key, settings and drafts for good; answers under way until the tab is closed.

function read(storage, name, otherwise) {
  try {
    const text = storage.getItem(`rxlm.${name}`);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

function write(storage, name, value) {
  try {
    if (value === null || value === undefined || value === "") storage.removeItem(`rxlm.${name}`);
    else storage.setItem(`rxlm.${name}`, JSON.stringify(value));
  } catch {
    // Storage is full or forbidden: the page works without it until it is reloaded.
  }
}

export const saved = {
  get: (name, otherwise = null) => read(localStorage, name, otherwise),
  set: (name, value) => write(localStorage, name, value),
};

// Of this tab only: another tab must not take over an answer that is still coming.
export const savedInTab = {
  get: (name, otherwise = null) => read(sessionStorage, name, otherwise),
  set: (name, value) => write(sessionStorage, name, value),
};

// Drafts by conversation: the text of the box, and texts in editors ("new" before the conversation exists).
export const drafts = {
  get: (conversation) => saved.get(`draft.${conversation ?? "new"}`, ""),
  set: (conversation, text) => saved.set(`draft.${conversation ?? "new"}`, text),
};
