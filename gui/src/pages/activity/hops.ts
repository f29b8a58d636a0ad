import type { MirrorRecord, Service, TraceRecord, VariantView } from "../../api/agent.generated";
import { headersOf } from "../../space/conditions";
import { refOf } from "../../space/services";
import { conditionInWords } from "../../space/wording";
import { lasted, size, type Traced } from "./tracing";

/** One station of a request, and what happened there. Texts come from requests and from people: they are shown as text. */
export interface Hop {
  where: string;
  what: string;
  facts: (readonly [name: string, value: string])[];
  tone: "good" | "bad" | "quiet";
}

/** What is known besides the record itself. */
export interface Known {
  service: Service | undefined;
  nameOf: (user: string) => string | undefined;
  /** The name of the laptop of a session. */
  laptopOf: (session: string) => string | undefined;
}

// What Envoy's flags mean (`%RESPONSE_FLAGS%`), those that a Router of ours can show.
const FLAGS: Record<string, string> = {
  DC: "the caller ended the connection",
  DPE: "the request was no proper HTTP",
  LR: "the connection was reset",
  NR: "no route fits",
  SI: "nothing moved on the stream for too long",
  UC: "the connection to whoever answers ended",
  UF: "whoever should answer could not be reached",
  UH: "nobody was there to answer",
  UO: "too many requests at once",
  UPE: "the answer was no proper HTTP",
  UR: "whoever should answer reset the request",
  URX: "it was tried as often as may be",
  UT: "whoever should answer took too long",
};

/** An error of a record, with what its flags mean. */
export function errorInWords(error: string): string {
  const [flags = ""] = error.split(" ", 1);
  const meant = flags
    .split(",")
    .map((flag) => FLAGS[flag])
    .filter((words) => words !== undefined);
  return meant.length === 0 ? error : `${meant.join(", ")} (${error})`;
}

const FALLBACKS: Record<string, string> = {
  away: "its laptop is away",
  unreachable: "its laptop, or the program on it, could not be reached",
};

const MISSED: Record<string, string> = {
  away: "which is away",
  unreachable: "but that, or the program on it, could not be reached",
};

export function fallbackInWords(fallback: string): string {
  return FALLBACKS[fallback] ?? fallback;
}

/** The way of one request or connection, station by station. */
export function hopsOf(traced: Traced, known: Known): Hop[] {
  if (traced.type === "mirror") return mirrored(traced.mirror, known);
  return traced.record.direction === "serve" ? served(traced.record, known) : consumed(traced.record, known);
}

function variantIn(service: Service | undefined, id: string): VariantView | undefined {
  return service?.serving?.variants.find((one) => one.variant_id === id);
}

function caller(record: { method: string; path: string }, service: string, protocol: string): Hop {
  return {
    where: "Caller",
    what:
      record.method === ""
        ? `Something opened a ${protocol} connection to ${service}.`
        : `Something asked ${service}, in the cluster or from a laptop.`,
    facts: record.method === "" ? [] : [["Request", `${record.method} ${record.path}`]],
    tone: "quiet",
  };
}

function throughRouter(service: string, port: number, known: Known): Hop {
  const serving = known.service?.serving;
  return {
    where: `Service ${service}, port ${String(port)}`,
    what: "Somebody serves it, so its Router has its traffic and decides each request by itself.",
    facts:
      serving === null || serving === undefined
        ? []
        : [
            ["Serving", serving.detail === "" ? serving.state : `${serving.state}: ${serving.detail}`],
            ["Variants", String(serving.variants.length)],
          ],
    tone: serving?.state === "contested" || serving?.state === "refused" ? "bad" : "quiet",
  };
}

function decision(record: TraceRecord, variant: VariantView | undefined): Hop {
  const condition =
    variant === undefined ? record.why : conditionInWords(variant.condition, variant.user_name);
  const chosen = variant === undefined ? [] : headersOf(variant.condition, variant.user);
  return {
    where: "Router: condition",
    what:
      condition === ""
        ? "It met the condition of a variant that has ended since, so the condition is not known any more."
        : `It met the condition of the variant: ${condition}.`,
    facts: chosen.map((line) => ["Chosen by", line] as const),
    tone: "good",
  };
}

function ownerOf(record: { variant: string }, user: string, known: Known): string {
  const variant = variantIn(known.service, record.variant);
  const owner = variant?.user ?? user;
  const name = known.nameOf(owner) ?? variant?.user_name ?? "its owner";
  const laptop = variant === undefined ? undefined : known.laptopOf(variant.session);
  return laptop === undefined ? `the laptop of ${name}` : `${laptop}, the laptop of ${name}`;
}

function outcome(record: TraceRecord): Hop["facts"] {
  return [
    ["Status", record.status === 0 ? "none" : String(record.status)],
    ["Took", lasted(record.milliseconds)],
    ["Bytes", `${size(record.sent)} up, ${size(record.received)} down`],
  ];
}

function served(record: TraceRecord, known: Known): Hop[] {
  const service = refOf(record.service);
  const variant = variantIn(known.service, record.variant);
  const isFallback = record.fallback !== "";
  const hops = [
    caller(record, service, record.protocol),
    throughRouter(service, record.port, known),
    decision(record, variant),
  ];
  const laptop = ownerOf(record, record.user, known);
  const wrong: Hop["facts"] = record.error === "" ? [] : [["Error", errorInWords(record.error)]];
  hops.push({
    where: "Variant",
    what: isFallback
      ? `It should have gone to ${laptop}, ${MISSED[record.fallback] ?? `but: ${record.fallback}`}.`
      : `It went through the tunnel to ${laptop}.`,
    facts: [
      ["Variant", record.variant],
      ...(isFallback ? [["Reason", record.fallback] as const, ...wrong] : [...outcome(record), ...wrong]),
    ],
    tone: isFallback || record.error !== "" ? "bad" : "good",
  });
  if (isFallback)
    hops.push({
      where: "Origin",
      what: "The service's own pods answered in its place. The answer says so in a header.",
      facts: [["Header", `x-codezero-fallback: ${record.fallback}`], ...outcome(record)],
      tone: record.status >= 500 ? "bad" : "good",
    });
  return hops;
}

function consumed(record: TraceRecord, known: Known): Hop[] {
  const service = refOf(record.service);
  const variants = known.service?.serving?.variants ?? [];
  const failed = record.error !== "";
  const hops: Hop[] = [
    {
      where: "This machine",
      what: `A program opened a ${record.protocol} connection to ${service}, port ${String(record.port)}.`,
      facts: [],
      tone: "quiet",
    },
    {
      where: "Agent",
      what: failed
        ? "The agent took it, and it failed on its way or ended in an error."
        : "The agent took it and carried it through the tunnel.",
      facts: failed ? [["Error", record.error]] : [],
      tone: failed ? "bad" : "good",
    },
  ];
  hops.push({
    where: `Service ${service}`,
    what:
      variants.length === 0
        ? "Nobody serves it: its own pods answer."
        : "Its Router decides each request on the connection by itself; which of these answered is not known here.",
    facts: [
      ...variants.map((one) => [one.user_name, conditionInWords(one.condition, one.user_name)] as const),
      ...outcome(record).filter(([name]) => name !== "Status"),
    ],
    tone: failed ? "bad" : "quiet",
  });
  return hops;
}

function mirrored(mirror: MirrorRecord, known: Known): Hop[] {
  const service = refOf(mirror.service);
  const differ = mirror.differences.length;
  return [
    caller(mirror, service, "HTTP"),
    throughRouter(service, mirror.port, known),
    {
      where: "Origin",
      what: "The service's own pods answered, and the caller got their answer.",
      facts: [["Took", lasted(mirror.origin_milliseconds)]],
      tone: "good",
    },
    {
      where: "Mirror",
      what:
        differ === 0
          ? `A copy went to ${ownerOf(mirror, "", known)}, which gave the same answer.`
          : `A copy went to ${ownerOf(mirror, "", known)}, whose answer differs; nobody but you sees it.`,
      facts: [
        ["Variant", mirror.variant],
        ["Took", lasted(mirror.variant_milliseconds)],
      ],
      tone: differ === 0 ? "good" : "bad",
    },
  ];
}
