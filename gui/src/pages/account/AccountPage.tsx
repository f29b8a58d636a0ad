import { PageHead } from "../../parts";

export function AccountPage() {
  return <PageHead title="Account" />;
}
