import { PageHead } from "../../parts";

export function DevicesPage() {
  return <PageHead title="Devices" />;
}
