/** A refusal of one of our APIs (RFC 9457): what failed, its code, and the next step. */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  readonly fix: string | undefined;

  constructor(told: {
    status: number;
    code: string;
    title: string;
    detail: string;
    fix?: string | undefined;
  }) {
    super(told.detail || told.title);
    this.name = "Problem";
    this.status = told.status;
    this.code = told.code;
    this.title = told.title;
    this.detail = told.detail;
    this.fix = told.fix;
  }
}

// As Chromium, Firefox and Safari say it. Faults of our own programs are of the same type.
const AWAY = /fetch|network|load failed/i;

/** Whatever was thrown, as a problem. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  const away = error instanceof TypeError && AWAY.test(error.message);
  return new Problem({
    status: 0,
    code: away ? "CZ-GUI-001" : "CZ-GUI-002",
    title: away ? "Not reachable" : "Something went wrong in this page",
    detail: away ? "The server does not answer." : String(error),
    fix: away ? "It is tried again by itself; look whether your network is there." : "Reload the page.",
  });
}

/** The problem that an answer tells. */
export async function problemOf(answer: Response): Promise<Problem> {
  let told: Record<string, unknown> = {};
  try {
    told = (await answer.json()) as Record<string, unknown>;
  } catch {
    // Not one of ours: something between us and the server has answered.
  }
  const text = (name: string) => (typeof told[name] === "string" ? told[name] : "");
  return new Problem({
    status: answer.status,
    code: text("code") || `HTTP ${String(answer.status)}`,
    title: text("title") || answer.statusText || "Refused",
    detail: text("detail") || text("title") || `The server answered with status ${String(answer.status)}.`,
    fix: text("fix") || undefined,
  });
}
