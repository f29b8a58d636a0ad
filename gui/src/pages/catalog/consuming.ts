import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useMemo } from "react";

import { agent } from "../../api/agent";
import type { ConsumedService, ConsumeView, ServiceRef } from "../../api/agent.generated";
import { refused, said } from "../../parts";
import { withoutService, withService } from "../../space/rules";
import { refOf } from "../../space/services";

/** The consume rules of this machine and what they let in; not asked where this page has no agent in this Teamspace. */
export function useConsume(enabled: boolean) {
  return useQuery({ queryKey: ["agent", "consume"], queryFn: agent.consume, enabled });
}

/** What this machine serves; asked again every so often where `refetchInterval` (milliseconds) says so. */
export function useServes(enabled: boolean, refetchInterval: number | false = false) {
  return useQuery({ queryKey: ["agent", "serve"], queryFn: agent.serves, enabled, refetchInterval });
}

/** What is consumed, by `namespace/name`. */
export function useConsumed(view: ConsumeView | undefined): ReadonlyMap<string, ConsumedService> | undefined {
  return useMemo(
    () => view && new Map(view.consumed.map((one) => [refOf(one.service), one] as const)),
    [view],
  );
}

/** What changes after rules have. */
export function useConsumeChanged(): (view: ConsumeView) => void {
  const client = useQueryClient();
  return (view) => {
    client.setQueryData(["agent", "consume"], view);
    void client.invalidateQueries({ queryKey: ["agent", "status"] });
    void client.invalidateQueries({ queryKey: ["agent", "presence"] });
  };
}

/** Consume one service, or stop: by a rule, as somebody would write it. The rules are read anew first, for they may have been changed elsewhere. */
async function change(ref: ServiceRef, ports: number[], wanted: boolean): Promise<ConsumeView> {
  const now = await agent.consume();
  const letsIn = async (rules: string[]) => {
    const view = await agent.testConsume({ rules });
    const found = view.consumed.find((one) => refOf(one.service) === refOf(ref));
    return wanted
      ? ports.every((port) => found?.ports.includes(port)) && found !== undefined
      : found !== undefined;
  };
  const rules = await (wanted ? withService : withoutService)(now.rules, ref, now.primary_namespace, letsIn);
  return await agent.changeConsume({ rules });
}

export function useConsumeService(ref: ServiceRef, ports: number[]) {
  const changed = useConsumeChanged();
  return useMutation({
    mutationFn: (wanted: boolean) => change(ref, ports, wanted),
    onSuccess: (view, wanted) => {
      changed(view);
      said(wanted ? `${refOf(ref)} is consumed` : `${refOf(ref)} is no longer consumed`);
    },
    onError: refused,
  });
}
