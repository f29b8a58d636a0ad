import { PageHead } from "../../parts";

export function AuditPage() {
  return <PageHead title="Audit" />;
}
