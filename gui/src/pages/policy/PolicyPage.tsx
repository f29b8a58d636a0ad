import { PageHead } from "../../parts";

export function PolicyPage() {
  return <PageHead title="Policy" />;
}
