import { PageHead } from "../../parts";

export function MembersPage() {
  return <PageHead title="Members" />;
}
