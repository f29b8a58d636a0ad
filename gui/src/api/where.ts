import { problemOf } from "./problem";

/** Where this page comes from: the Hub, or the local console of `czctl ui`. */
export interface Where {
  served_by: "hub" | "console";
  release: string;
  /** The Hub's public URL; null at a console that knows none. */
  hub: string | null;
}

let known: Where | undefined;

/** Ask once, before anything else is shown. */
export async function learnWhere(): Promise<Where> {
  const answer = await fetch("/ui/app.json");
  if (!answer.ok) throw await problemOf(answer);
  known = (await answer.json()) as Where;
  return known;
}

/** Where this page comes from; known before the first component is. */
export function where(): Where {
  if (known === undefined) throw new Error("where() before learnWhere()");
  return known;
}
