import { PageHead } from "../../parts";

export function PeoplePage() {
  return <PageHead title="People" />;
}
