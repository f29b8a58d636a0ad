import { useQuery } from "@tanstack/react-query";

import { agent } from "../api/agent";
import type { StatusView } from "../api/agent.generated";
import { asProblem, type Problem } from "../api/problem";
import { useChannel } from "../channel/channel";

/**
 * The agent of this machine as far as this page reaches it: `channel` is how, `status` what it says of itself, `problem` why there is none.
 */
export interface AgentState {
  channel: "console" | "direct" | "relay" | "none";
  /** Whether this page may change things there: some pairings only read. */
  mayAct: boolean;
  status: StatusView | undefined;
  problem: Problem | undefined;
  isLoading: boolean;
  /** What it said of itself last, whether it still answers or not. */
  last: StatusView | undefined;
}

const NOT_RUNNING = "CZ-AGENT-001";

/** How the agent of this machine is; kept current by its events. */
export function useAgent(): AgentState {
  const channel = useChannel();
  const isReached = channel.way !== "none" && channel.way !== "looking";
  const query = useQuery({
    queryKey: ["agent", "status"],
    queryFn: agent.status,
    enabled: isReached,
    retry: false,
    refetchInterval: 15_000,
  });
  // A machine that is away for a while is still the one that this page is about.
  const isOurs = isReached || (channel.way === "none" && channel.why === "away");
  return {
    channel: isReached ? channel.way : "none",
    mayAct: "pairing" in channel ? channel.pairing.acts : true,
    status: query.isError || !isReached ? undefined : query.data,
    problem: query.isError && isReached ? asProblem(query.error) : undefined,
    isLoading: channel.way === "looking" || (isReached && query.isPending),
    last: isOurs ? query.data : undefined,
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

/** The same, for what changes something there: a pairing that only reads offers none of it. */
export function useAgentActs(space: string | undefined): boolean {
  const { mayAct } = useAgent();
  return useAgentIn(space) && mayAct;
}
