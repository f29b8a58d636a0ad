import type { Member } from "../../api/hub.generated";

/** The members whose name, address or id holds `text`, and who have `role` (any, where it is empty), by their names. */
export function fitting(members: readonly Member[], text: string, role: string | undefined): Member[] {
  const wanted = text.trim().toLowerCase();
  return members
    .filter(
      (member) =>
        (role === undefined || role === "" || member.role === role) &&
        [member.name, member.email ?? "", member.user].some((one) => one.toLowerCase().includes(wanted)),
    )
    .sort((one, other) => one.name.localeCompare(other.name) || one.user.localeCompare(other.user));
}
