import { useQuery, useQueryClient } from "@tanstack/react-query";

import { agent } from "../../api/agent";

/** What this machine consumes. */
export function useConsumed() {
  return useQuery({ queryKey: ["agent", "consume"], queryFn: agent.consume });
}

/** What this machine serves. */
export function useServed() {
  return useQuery({ queryKey: ["agent", "serve"], queryFn: agent.serves });
}

/** Has all that shows this machine read anew. */
export function useMachineChanged(): () => Promise<void> {
  const client = useQueryClient();
  return () => client.invalidateQueries({ queryKey: ["agent"] });
}
