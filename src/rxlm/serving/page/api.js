// Requests to the server that gave this page, and its errors in plain words.

import { change, state } from "./state.js";

export class ApiError extends Error {
  // status 0: no answer came at all. retryAfter: seconds, from a 429.
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const UNREACHABLE = "The server does not answer. Your text is kept; the page tries again by itself.";

async function errorOf(response) {
  let message = response.statusText;
  try {
    message = (await response.json()).error.message;
  } catch {
    // Not the server's own error, for example a proxy's page: the status has to do.
  }
  const seconds = Number.parseInt(response.headers.get("Retry-After"), 10);
  return new ApiError(response.status, message, Number.isNaN(seconds) ? null : seconds);
}

export async function request(method, path, body, signal) {
  // The second header asks for events about the memory in streams of responses, which other clients do not know.
  const headers = { Authorization: `Bearer ${state.key ?? ""}`, "X-Rxlm-Memory-Events": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    change({ offline: true });
    throw new ApiError(0, UNREACHABLE);
  }
  if (response.ok) return response;
  const error = await errorOf(response);
  if (error.status === 401) change({ keyProblem: state.key ? "refused" : "missing" });
  throw error;
}

async function json(method, path, body) {
  const response = await request(method, path, body);
  try {
    return await response.json();
  } catch {
    throw new ApiError(0, "The server's answer broke off. Try again.");
  }
}

export const get = (path) => json("GET", path);
export const post = (path, body) => json("POST", path, body);
export const remove = (path) => json("DELETE", path);

// What went wrong and what to do, for a reader who knows nothing of HTTP.
export function inPlainWords(error) {
  const said = error.message ? `: ${error.message}` : "";
  if (!(error instanceof ApiError)) return `The page had an error${said}. Reload it; nothing is lost.`;
  if (error.status === 0) return error.message;
  if (error.status === 401) return "The server does not accept the key. Enter the key that it printed when it started.";
  if (error.status === 404) return `The server does not have this (any more)${said}. Reload the page.`;
  if (error.status === 429) return "The server has too much to do at the moment.";
  if (error.status >= 500) return `The server had an error${said}. Try again; if it stays, look in the server's log.`;
  return `The server refused this${said}.`;
}
