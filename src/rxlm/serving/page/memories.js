// Memories as the inspector shows them, fetched once: the memory after a turn never changes.

import { useEffect, useState } from "./vendor/htm-preact.js";
import { get, inPlainWords } from "./api.js";

const LIMIT = 64;
const known = new Map(); // path -> JSON, the least recently used first

async function fetchOnce(path) {
  const found = known.get(path) ?? (await get(path));
  known.delete(path);
  known.set(path, found);
  if (known.size > LIMIT) known.delete(known.keys().next().value);
  return found;
}

// {value, error} of a GET; the last value stays while the next one is fetched, so that the slider does not flicker.
export function useFetched(path) {
  const [found, setFound] = useState({ value: null, error: null, path: null });
  useEffect(() => {
    if (!path) return undefined;
    let isCurrent = true;
    // The slider passes many turns: only where it rests is asked for.
    const timer = setTimeout(
      async () => {
        try {
          const value = await fetchOnce(path);
          if (isCurrent) setFound({ value, error: null, path });
        } catch (error) {
          if (isCurrent) setFound({ value: null, error: inPlainWords(error), path });
        }
      },
      known.has(path) ? 0 : 120,
    );
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [path]);
  return path ? found : { value: null, error: null, path: null };
}
