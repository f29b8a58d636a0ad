import { problemOf } from "./problem";
import { where } from "./where";

let csrf = "";

/** What every change at the Hub carries; told by `auth/me`. */
export function keepCsrf(value: string): void {
  csrf = value;
}

/** One request to our own origin, with what shows that it comes from this page; throws `Problem` for a refusal. */
export async function send(request: Request): Promise<Response> {
  const headers = new Headers(request.headers);
  if (where().served_by === "console") headers.set("X-Codezero-CSRF", "console");
  else if (csrf !== "" && request.method !== "GET") headers.set("X-Codezero-CSRF", csrf);
  const answer = await fetch(new Request(request, { headers }));
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}
