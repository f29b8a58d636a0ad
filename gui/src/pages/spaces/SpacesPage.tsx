import { PageHead } from "../../parts";

export function SpacesPage() {
  return <PageHead title="Teamspaces" />;
}
