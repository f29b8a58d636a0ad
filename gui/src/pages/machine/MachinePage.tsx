import { PageHead } from "../../parts";

export function MachinePage() {
  return <PageHead title="My machine" />;
}
