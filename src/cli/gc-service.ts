// Asks the service that has the registry open to collect, and reads what it says.
import type { GcOptions } from '../hosted/gc/collector.ts';
import { type GcLine, type GcReport, gcLineSchema } from '../hosted/gc/report.ts';
import { linesOf } from './service/lines.ts';
import { type Hints, parseJson, refusalOf } from './service/refusal.ts';
import { type Service, ServiceRefused, sendRequest } from './service/service.ts';

const HINT = 'set VENEER_TOKEN to a token that may delete there';
const ADVICE = 'ask again; what is removed by now stays removed';
const HINTS: Hints = { 401: HINT, 403: HINT };

/** Throws ServiceRefused. */
export async function askService(
  service: Service,
  { dryRun = false, force = false, onProgress }: GcOptions,
): Promise<GcReport> {
  const response = await post(service, `dryRun=${dryRun}&force=${force}`);
  if (!response.ok) throw await refusalOf(response, HINTS);
  const { host } = service.url;
  for await (const text of linesOf(response, ADVICE)) {
    const line = parseLine(text, host);
    if (line.kind === 'report') return line.report;
    if (line.kind === 'error') throw new ServiceRefused(line.message);
    onProgress?.(line.progress);
  }
  throw new ServiceRefused(`${host} broke off: ${ADVICE}`);
}

async function post(service: Service, query: string): Promise<Response> {
  try {
    return await sendRequest(service, `/v1/hosted/collect?${query}`, { method: 'POST' });
  } catch (cause) {
    if (!(cause instanceof ServiceRefused && cause.isUnreachable)) throw cause;
    throw new ServiceRefused(`another process uses the data directory, and ${cause.message}`, { cause });
  }
}

function parseLine(text: string, host: string): GcLine {
  const { data } = gcLineSchema.safeParse(parseJson(text));
  if (data) return data;
  throw new ServiceRefused(`what answers at ${host} is no Veneer of this version`);
}
