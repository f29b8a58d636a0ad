import { PageHead } from "../../parts";

export function SettingsPage() {
  return <PageHead title="Settings" />;
}
