import { PageHead } from "../../parts";

export function ActivityPage() {
  return <PageHead title="Activity" />;
}
