import { PageHead } from "../../parts";

export function SpacePage() {
  return <PageHead title="Teamspace" />;
}
