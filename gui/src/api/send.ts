import { problemOf } from "./problem";
import { where } from "./where";

let csrf = "";

/** What every change at the Hub carries; told by `auth/me`. */
export function keepCsrf(value: string): void {
  csrf = value;
}

/** One request to our own origin, with what shows that it comes from this page; throws `Problem` for a refusal, unless `any` answer is wanted. */
export async function send(request: Request, wanted?: "any"): Promise<Response> {
  const headers = new Headers(request.headers);
  if (where().served_by === "console") headers.set("X-Codezero-CSRF", "console");
  else if (csrf !== "" && request.method !== "GET") headers.set("X-Codezero-CSRF", csrf);
  const answer = await fetch(new Request(request, { headers }));
  if (!answer.ok && wanted !== "any") throw await problemOf(answer);
  return answer;
}
