import { useQuery } from "@tanstack/react-query";

import { agent } from "../api/agent";
import type { StatusView } from "../api/agent.generated";
import { asProblem, type Problem } from "../api/problem";
import { where } from "../api/where";

/**
 * The agent of this machine as far as this page reaches it: `channel` is how (the local console is the one way there is to it),
 * `status` what it says of itself, `problem` why there is none.
 */
export interface AgentState {
  channel: "console" | "none";
  status: StatusView | undefined;
  problem: Problem | undefined;
  isLoading: boolean;
  /** What it said of itself last, whether it still answers or not. */
  last: StatusView | undefined;
}

const NOT_RUNNING = "CZ-AGENT-001";

/** How the agent of this machine is; kept current by its events. */
export function useAgent(): AgentState {
  const reachable = where().served_by === "console";
  const query = useQuery({
    queryKey: ["agent", "status"],
    queryFn: agent.status,
    enabled: reachable,
    retry: false,
    refetchInterval: 15_000,
  });
  return {
    channel: reachable ? "console" : "none",
    status: query.isError ? undefined : query.data,
    problem: query.isError ? asProblem(query.error) : undefined,
    isLoading: reachable && query.isPending,
    last: query.data,
  };
}

/**
 * Whether this machine is connected to that Teamspace, so that things can be consumed and served from this page. It is as long as nobody says otherwise:
 * what somebody types into a form is not taken away because one answer did not come.
 */
export function useAgentIn(space: string | undefined): boolean {
  const { last, problem } = useAgent();
  const teamspace = problem?.code === NOT_RUNNING ? null : (last?.teamspace ?? null);
  return teamspace !== null && (space === undefined || teamspace.id === space);
}
