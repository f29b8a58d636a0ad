import { useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback } from "react";

type Texts = Partial<Record<string, string>>;

/**
 * What is filtered and opened, which is in the address as text, and a function that changes some of it; what is empty or undefined leaves the address.
 * With `keep` the state before is one step back in the browser's history.
 */
export function useAddress(): [Texts, (change: Texts, keep?: boolean) => void] {
  const search: Texts = useSearch({ strict: false });
  const navigate = useNavigate();
  const change = useCallback(
    (to: Texts, keep = false) => {
      void navigate({
        to: ".",
        search: (before: Texts) =>
          Object.fromEntries(
            Object.entries({ ...before, ...to }).filter(([, value]) => value !== undefined && value !== ""),
          ),
        replace: !keep,
      });
    },
    [navigate],
  );
  return [search, change];
}
