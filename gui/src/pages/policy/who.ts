import { useMembersById } from "../../parts/members";
import { useMay, useSession } from "../../session/session";

/** Whose rights are asked about. */
export interface Who {
  id: string;
  name: string;
  isOneself: boolean;
  /** What czctl calls them. */
  handle: string;
}

/** The member that the address names, where others may be asked about; whoever looks otherwise. */
export function useWho(named: string | undefined): Who {
  const { me } = useSession();
  const members = useMembersById();
  const mayRead = useMay()("policies.read");
  const own = me?.user.id ?? "";
  const member = mayRead && named !== undefined && named !== own ? members.get(named) : undefined;
  if (member === undefined) return { id: own, name: me?.user.name ?? "You", isOneself: true, handle: own };
  return {
    id: member.user,
    name: member.name === "" ? (member.email ?? member.user) : member.name,
    isOneself: false,
    handle: member.email ?? member.user,
  };
}
