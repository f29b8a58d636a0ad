import { useEffect, useRef, useState } from "react";

import type { May, MayAsked } from "../../api/hub.generated";
import type { Service } from "../../api/agent.generated";
import { inParallel } from "./inParallel";
import { usePlace } from "./policies";
import { askMay } from "./Question";
import { conditionFrom, nameOf, portsOf } from "./questions";
import type { Who } from "./who";

// Each question is one request.
const AT_ONCE = 4;

/** What is asked of each service. */
export const COLUMNS = [
  { id: "consume", title: "Consume" },
  { id: "serve-user", title: "Serve user" },
  { id: "serve-header", title: "Serve header" },
  { id: "serve-default", title: "Serve default" },
] as const;

export type Column = (typeof COLUMNS)[number]["id"];

/** The question of a cell; `header` as KEY:VALUE. */
export function questionOf(service: Service, column: Column, who: Who, header: string): MayAsked {
  const conditions = {
    consume: undefined,
    "serve-user": conditionFrom("user", ""),
    "serve-header": conditionFrom("header", header),
    "serve-default": conditionFrom("default", ""),
  } as const;
  const condition = conditions[column];
  return {
    operation: column,
    service: nameOf(service),
    ports: condition === undefined ? [] : portsOf(service),
    ...(condition === undefined ? {} : { condition }),
    ...(who.isOneself ? {} : { as: who.id }),
  };
}

/** The answers so far. */
export interface Asked {
  answers: ReadonlyMap<string, May>;
  done: number;
  of: number;
  isAsking: boolean;
  error: unknown;
  /** By which version of the policy, and with which header. */
  version: number | undefined;
  header: string;
}

const NOTHING: Asked = {
  answers: new Map(),
  done: 0,
  of: 0,
  isAsking: false,
  error: null,
  version: undefined,
  header: "",
};

export function cellOf(service: Service, column: Column): string {
  return `${nameOf(service)} ${column}`;
}

/** Asks about many services, one after the other, and can be stopped. */
export function useMatrix(who: Who) {
  const place = usePlace();
  const [asked, setAsked] = useState<Asked>(NOTHING);
  const running = useRef<AbortController | null>(null);
  useEffect(
    () => () => {
      running.current?.abort();
    },
    [],
  );

  const ask = async (services: readonly Service[], header: string, version: number | undefined) => {
    running.current?.abort();
    const mine = new AbortController();
    running.current = mine;
    const { signal } = mine;
    setAsked({ ...NOTHING, of: services.length * COLUMNS.length, isAsking: true, version, header });
    const tell = (answers: [string, May][]) => {
      if (signal.aborted) return;
      setAsked((before) => ({
        ...before,
        answers: new Map([...before.answers, ...answers]),
        done: before.done + answers.length,
      }));
    };
    const askOne = async (service: Service, column: Column) => {
      const may = await askMay(place, questionOf(service, column, who, header), signal);
      tell([[cellOf(service, column), may]]);
      return may;
    };
    const others = COLUMNS.map((column) => column.id).filter((column) => column !== "consume");
    let error: unknown = null;
    try {
      await inParallel(services, AT_ONCE, signal, async (service) => {
        const may = await askOne(service, "consume");
        // Nobody does anything to a service that they do not see: the Hub would say the same three times more.
        if (!may.allowed) tell(others.map((column) => [cellOf(service, column), may]));
        else for (const column of others) await askOne(service, column);
      });
    } catch (problem) {
      if (signal.aborted) return;
      error = problem;
      mine.abort();
    }
    if (running.current === mine) setAsked((before) => ({ ...before, isAsking: false, error }));
  };

  const stop = () => {
    running.current?.abort();
    setAsked((before) => ({ ...before, isAsking: false }));
  };

  return { asked, ask, stop };
}
