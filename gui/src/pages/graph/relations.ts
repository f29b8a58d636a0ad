import type { Laptop } from "../../space/laptops";
import { healthInWords } from "../../space/services";
import { answersInWords } from "../../space/wording";
import { laptopId, serviceId, type Picture } from "./picture";

/** One line of the list: a laptop consumes or serves a service, or a service stands there by itself. */
export interface Relation {
  id: string;
  who: string;
  does: "consumes" | "serves" | "is there" | "is connected";
  service: string;
  condition: string;
  state: string;
  tone: "good" | "busy" | "bad";
  opens: string;
}

/** The picture in lines; what needs attention first. */
export function relationsOf(picture: Picture, nameOf: (laptop: Laptop) => string): Relation[] {
  const laptops = new Map<string, Laptop>();
  for (const node of picture.nodes) if (node.kind === "laptop") laptops.set(node.laptop.session, node.laptop);
  const who = (laptop: Laptop | undefined) =>
    laptop === undefined ? "" : `${nameOf(laptop)}${laptop.name === "" ? "" : ` (${laptop.name})`}`;
  const services = new Map(
    picture.nodes.flatMap((node) => (node.kind === "service" ? [[node.ref, node] as const] : [])),
  );
  const lines: Relation[] = [];
  const related = new Set<string>();
  for (const laptop of laptops.values()) {
    let count = 0;
    for (const ref of laptop.consumes) {
      const node = services.get(ref);
      if (node === undefined) continue;
      count += 1;
      related.add(ref);
      const isAway = laptop.state === "away";
      lines.push({
        id: `${laptop.session} ${ref}`,
        who: who(laptop),
        does: "consumes",
        service: ref,
        condition: "",
        state: node.problem?.words ?? (isAway ? "laptop is away" : healthInWords(node.service)),
        tone: node.problem?.tone ?? (isAway ? "busy" : "good"),
        opens: serviceId(ref),
      });
    }
    if (count === 0 && laptop.serves.length === 0)
      lines.push({
        id: laptop.session,
        who: who(laptop),
        does: "is connected",
        service: "",
        condition: "",
        state: laptop.state,
        tone: laptop.state === "away" ? "busy" : "good",
        opens: laptopId(laptop.session),
      });
  }
  for (const node of picture.nodes) {
    if (node.kind !== "variant") continue;
    const { served } = node;
    related.add(served.service);
    const problem = services.get(served.service)?.problem;
    const laptop = laptops.get(node.session);
    lines.push({
      id: node.id,
      who: laptop === undefined ? served.user_name : who(laptop),
      does: "serves",
      service: served.service,
      condition: answersInWords(served),
      state: problem?.words ?? served.state,
      tone: problem?.tone ?? (served.state === "active" ? "good" : "busy"),
      opens: node.id,
    });
  }
  for (const [ref, node] of services)
    if (!related.has(ref))
      lines.push({
        id: node.id,
        who: "",
        does: "is there",
        service: ref,
        condition: "",
        state: node.problem?.words ?? healthInWords(node.service),
        tone: node.problem?.tone ?? "good",
        opens: node.id,
      });
  const weight = { bad: 0, busy: 1, good: 2 };
  return lines.sort((a, b) => weight[a.tone] - weight[b.tone]);
}
