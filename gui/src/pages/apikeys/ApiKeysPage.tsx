import { PageHead } from "../../parts";

export function ApiKeysPage() {
  return <PageHead title="API keys" />;
}
