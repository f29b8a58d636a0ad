import { useState } from "react";

import type { Policy } from "../../api/hub.generated";
import { asEdited } from "./policies";

/** A changed text, and the version that it was made from. */
interface Draft {
  began: Policy;
  text: string;
}

/** The document as somebody edits it; without a change it is what is in force, also when that changes. */
export interface Editing {
  text: string;
  /** The version that the text was made from. */
  began: Policy;
  isChanged: boolean;
  edit: (text: string) => void;
  /** Go on from what is in force by now, with that text. */
  goOn: (from: Policy, text: string) => void;
  /** Forget the changes. */
  drop: () => void;
}

/** Nothing before the policy in force is known. */
export function useEditing(policy: Policy | undefined): Editing | undefined {
  const [draft, setDraft] = useState<Draft | null>(null);
  const began = draft?.began ?? policy;
  if (began === undefined) return undefined;
  const put = (from: Policy, text: string) => {
    setDraft(text === asEdited(from.text) ? null : { began: from, text });
  };
  return {
    text: draft?.text ?? asEdited(began.text),
    began,
    isChanged: draft !== null,
    edit: (text) => {
      put(began, text);
    },
    goOn: put,
    drop: () => {
      setDraft(null);
    },
  };
}
