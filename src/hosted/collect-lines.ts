// A collection as lines of JSON: progress while it runs, and its end. What the API sends and the command line reads.
import { z } from 'zod';
import { collectProgressSchema, collectReportSchema } from './collect-report.ts';

export const COLLECT_LINES_MEDIA_TYPE = 'application/x-ndjson';

export const collectLineSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('progress'), progress: collectProgressSchema }),
  z.object({ kind: z.literal('report'), report: collectReportSchema }),
  z.object({ kind: z.literal('error'), message: z.string() }),
]);

export type CollectLine = z.infer<typeof collectLineSchema>;

export function encodeLine(line: CollectLine): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(line)}\n`);
}
