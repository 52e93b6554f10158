// The queries of the dashboard in deploy/.
import { readFile } from 'node:fs/promises';
import { z } from 'zod';

const dashboardSchema = z.object({
  panels: z.array(z.object({ targets: z.array(z.object({ expr: z.string() })).default([]) })),
  annotations: z.object({ list: z.array(z.object({ expr: z.string() })) }),
});

/** As Prometheus gets them from Grafana, with its variables filled in. */
export async function listQueries(): Promise<readonly string[]> {
  const { panels, annotations } = dashboardSchema.parse(
    JSON.parse(await readFile('deploy/grafana-dashboard.json', 'utf8')),
  );
  const written = [...panels.flatMap(({ targets }) => targets), ...annotations.list].map(({ expr }) => expr);
  return written.map(expr => expr.replaceAll('$__rate_interval', '1m').replaceAll('$instance', '.*'));
}
