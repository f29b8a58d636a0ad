import { PageHead } from "../../parts";

export function GraphPage() {
  return <PageHead title="Graph" />;
}
