import type { SortingState } from "../../parts/DataTable";
import type { Laptop } from "../../space/laptops";

export interface PeopleFilter {
  text: string;
  state: string;
  does: string;
}

/** Whose names, services or conditions have all words of `text`; in `state`; who consume or serve something, where that is asked for. */
export function filtered(
  laptops: readonly Laptop[],
  filter: PeopleFilter,
  nameOf: (laptop: Laptop) => string,
): Laptop[] {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  return laptops.filter((laptop) => {
    if (filter.state !== "" && laptop.state !== filter.state) return false;
    if (filter.does === "serves" && laptop.serves.length === 0) return false;
    if (filter.does === "consumes" && laptop.consumes.length === 0) return false;
    if (words.length === 0) return true;
    const content = [
      nameOf(laptop),
      laptop.name,
      ...laptop.consumes,
      ...laptop.serves.map((one) => one.service),
    ]
      .join(" ")
      .toLowerCase();
    return words.every((word) => content.includes(word));
  });
}

/** As in the address: `name`, or `-name` for the other way round. */
export function sortOf(text: string | undefined, otherwise: SortingState): SortingState {
  if (text === undefined || text === "" || text === "-") return otherwise;
  return text.startsWith("-") ? [{ id: text.slice(1), desc: true }] : [{ id: text, desc: false }];
}

export function textOfSort(sorting: SortingState): string {
  const [first] = sorting;
  return first === undefined ? "" : `${first.desc ? "-" : ""}${first.id}`;
}
